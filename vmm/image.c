// SPDX-License-Identifier: Apache-2.0
/*
 * What an image is made in has another name until it is whole and on stable
 * storage, so that whatever ends the program leaves nothing that looks like an
 * image. Signals that end it wait until that file is gone.
 */
#include "vmm/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/log.h"
#include "core/opt.h"
#include "core/util.h"
#include "devices/block/block.h"
#include "devices/block/image.h"
#include "devices/block/qcow2.h"
#include "vmm/help.h"

#define CLUSTER_SIZE_DEFAULT KIB(64)

/* Exit statuses of check, as of qemu-img's. */
#define STATUS_CORRUPT 2
#define STATUS_LEAKS 3

static const char *const preallocations[] = {
	[IMAGE_OFF] = "off", [IMAGE_FALLOC] = "falloc", [IMAGE_FULL] = "full", NULL,
};
static const char *const repairs[] = {
	[QCOW2_REPAIR_NOTHING] = "nothing", [QCOW2_REPAIR_LEAKS] = "leaks",
	[QCOW2_REPAIR_ALL] = "all", NULL,
};

struct image_conf {
	char *path, *backing;
	uint64_t size, cluster_size;
	int format, backing_format, preallocation, repair;
	bool force, shrink, json;
};

struct image_command {
	const char *name, *words, *summary;
	const struct opt *opts; /* those that are bare take words, in their order */
	int (*run)(const struct image_conf *conf);
};

__attribute__((format(printf, 2, 3)))
static int fail(const char *path, const char *format, ...)
{
	struct opt_error error;
	va_list args;

	va_start(args, format);
	vsnprintf(error.text, sizeof(error.text), format, args);
	va_end(args);
	log_error("%s: %s", path, error.text);
	return EXIT_FAILURE;
}

/* ---- formats ---- */

/* Both are files as they are; who wrote to one must not choose its format. */
static bool is_disguised(int fd, int format)
{
	return format == BLOCK_FORMAT_DEFAULT && block_looks_like_qcow2(fd);
}

static int fail_disguised(const char *path)
{
	return fail(path, "it begins as a qcow2 image does: write --format qcow2, or --format raw if "
			  "it is none");
}

static int check_size(const struct image_conf *conf)
{
	if (conf->size % BLOCK_SECTOR || conf->size > QCOW2_SIZE_MAX)
		return fail(conf->path, "choose a size that is a multiple of 512 bytes, below 8 EiB");
	return 0;
}

static int open_image(struct block_image *image, const char *path, bool read_only)
{
	int r = block_image_open(image, path, read_only, false);

	if (r == -EAGAIN)
		return fail(path, "it is in use, end the VM that has it first");
	if (r == -ENOTBLK)
		return fail(path, "it is neither a file nor a block device");
	return r < 0 ? fail(path, "%s", strerror(-r)) : 0;
}

/* Without a lock: a disk may have it for a backing file meanwhile. */
static int open_to_look(const char *path, int *ret_fd)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(path, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		close(fd);
		return fail(path, "it is neither a file nor a block device");
	}
	*ret_fd = fd;
	return 0;
}

/* ---- backing files ---- */

/* The size of the disk in a backing file. */
static int backing_size(const char *image, const char *backing, int format, uint64_t *ret_size)
{
	_cleanup_free_ char *path = qcow2_backing_path(image, backing);
	_cleanup_close_ int fd = -1;
	struct qcow2_header header;
	const char *reason;
	uint64_t file_size;

	if (!path)
		return fail(image, "%s", strerror(ENOMEM));
	if (open_to_look(path, &fd))
		return EXIT_FAILURE;
	if (format == BLOCK_FORMAT_RAW) {
		*ret_size = (uint64_t)lseek(fd, 0, SEEK_END);
		return 0;
	}
	if (qcow2_header_read(fd, &header, &file_size, &reason) < 0)
		return fail(path, "%s", reason);
	*ret_size = header.size;
	return 0;
}

/* ---- create ---- */

struct progress {
	struct image_progress base;
	uint64_t percent;
	bool terminal;
};

static void ending_signals(sigset_t *ret)
{
	sigemptyset(ret);
	sigaddset(ret, SIGINT);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGHUP);
}

static int report_progress(struct image_progress *base, uint64_t done, uint64_t total)
{
	struct progress *progress = container_of(base, struct progress, base);
	uint64_t percent = done / (total / 100 + 1);
	sigset_t ending, pending;

	if (progress->terminal && percent != progress->percent)
		fprintf(stderr, "\r%3" PRIu64 " %%", percent);
	progress->percent = percent;
	ending_signals(&ending);
	sigpending(&pending);
	sigandset(&pending, &pending, &ending);
	return sigisemptyset(&pending) ? 0 : -EINTR;
}

static int create_qcow2(int fd, const struct image_conf *conf, struct image_progress *progress)
{
	uint64_t cluster_size = conf->cluster_size ?: CLUSTER_SIZE_DEFAULT;
	struct qcow2_header header = {
		.size = conf->size, .cluster_bits = (uint32_t)__builtin_ctzll(cluster_size),
		.refcount_order = 4,
	};

	if (conf->backing) {
		if (strlen(conf->backing) > QCOW2_BACKING_MAX)
			return -ENAMETOOLONG;
		memcpy(header.backing, conf->backing, strlen(conf->backing));
		snprintf(header.backing_format, sizeof(header.backing_format), "%s",
			 block_formats[conf->backing_format]);
	}
	return qcow2_create(fd, &header, (enum image_preallocation)conf->preallocation, progress);
}

static int create_raw(int fd, const struct image_conf *conf, struct image_progress *progress)
{
	if (ftruncate(fd, (off_t)conf->size) < 0)
		return -errno;
	return image_preallocate(fd, 0, conf->size, (enum image_preallocation)conf->preallocation,
				 progress);
}

static int fill(int fd, const struct image_conf *conf)
{
	struct progress progress = { { report_progress }, .terminal = isatty(STDERR_FILENO) };
	int r;

	if (conf->format == BLOCK_FORMAT_QCOW2)
		r = create_qcow2(fd, conf, &progress.base);
	else
		r = create_raw(fd, conf, &progress.base);
	if (progress.terminal && progress.percent)
		fputs("\r      \r", stderr);
	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

/* A file is replaced only where that was asked for, even if it has appeared since we looked. */
static int publish(const char *made, const char *path, bool force)
{
	if (force)
		return rename(made, path) < 0 ? -errno : 0;
	if (renameat2(AT_FDCWD, made, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	/* A file system that cannot do so can have two names for a file. */
	if (errno != EINVAL || link(made, path) < 0)
		return -errno;
	unlink(made);
	return 0;
}

/* So that the name is there after a power failure, too. */
static int sync_folder(const char *path)
{
	_cleanup_free_ char *copy = strdup(path);
	_cleanup_close_ int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int create_as(const char *made, const struct image_conf *conf)
{
	_cleanup_close_ int fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	int r;

	if (fd < 0)
		return -errno;
	r = fill(fd, conf);
	r = r ?: publish(made, conf->path, conf->force);
	if (r < 0)
		unlink(made);
	return r ?: sync_folder(conf->path);
}

static const char *create_advice(int err)
{
	static const struct hint hints[] = {
		{ EEXIST, "it is there already, --force replaces it" },
		{ EFBIG, "an image with such clusters cannot be that large, choose a larger "
			 "--cluster-size" },
		{ ENAMETOOLONG, "a name is too long" },
		{ EOPNOTSUPP, "its file system cannot set space aside, choose --preallocation full" },
		{ EINTR, "interrupted, nothing was made" },
		{ 0 },
	};

	return hint_find(hints, err);
}

/* What stands in the way of a new file. */
static int clear_place(const struct image_conf *conf, struct block_image *old)
{
	struct stat st;

	if (lstat(conf->path, &st) < 0)
		return errno == ENOENT ? 0 : fail(conf->path, "%s", strerror(errno));
	if (!conf->force)
		return fail(conf->path, "%s", create_advice(EEXIST));
	if (!S_ISREG(st.st_mode))
		return fail(conf->path, "it is not a plain file, and is not replaced");
	return open_image(old, conf->path, false);
}

static int check_wishes(struct image_conf *conf)
{
	bool qcow2 = conf->format == BLOCK_FORMAT_QCOW2;

	if (!qcow2 && (conf->backing || conf->backing_format || conf->cluster_size))
		return fail(conf->path, "backing files and clusters are for --format qcow2");
	if (conf->backing && conf->backing_format == BLOCK_FORMAT_DEFAULT)
		return fail(conf->path, "say what the backing file is: --backing-format raw or qcow2");
	if (conf->backing_format && !conf->backing)
		return fail(conf->path, "--backing-format is for a --backing file");
	/* It would hide all of the backing file. */
	if (conf->backing && conf->preallocation != IMAGE_OFF)
		return fail(conf->path, "an image with a backing file cannot be preallocated");
	if (conf->backing && !conf->size &&
	    backing_size(conf->path, conf->backing, conf->backing_format, &conf->size))
		return EXIT_FAILURE;
	if (!conf->size)
		return fail(conf->path, "say how large it is to be, for example 10G");
	return check_size(conf);
}

static int run_create(const struct image_conf *given)
{
	_cleanup_(block_image_close) struct block_image old = { .fd = -1 };
	struct image_conf conf = *given;
	_cleanup_free_ char *made = NULL;
	sigset_t ending, before;
	uint64_t size;
	int r;

	if (check_wishes(&conf) || clear_place(&conf, &old))
		return EXIT_FAILURE;
	/* Whose size was taken was looked at for that. */
	if (conf.backing && given->size &&
	    backing_size(conf.path, conf.backing, conf.backing_format, &size))
		return EXIT_FAILURE;
	if (asprintf(&made, "%s.%d.new", conf.path, getpid()) < 0)
		return fail(conf.path, "%s", strerror(ENOMEM));
	ending_signals(&ending);
	sigprocmask(SIG_BLOCK, &ending, &before);
	r = create_as(made, &conf);
	if (r < 0)
		fail(conf.path, "%s", create_advice(r));
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- info ---- */

static void describe_file(json_t *facts, const char *path, const char *format, uint64_t size,
			  const struct stat *st)
{
	json_object_set_new(facts, "path", json_string(path));
	json_object_set_new(facts, "format", json_string(format));
	json_object_set_new(facts, "size", json_integer((json_int_t)size));
	json_object_set_new(facts, "used", json_integer((json_int_t)st->st_blocks * 512));
}

static void describe_qcow2(json_t *facts, const struct qcow2_header *header)
{
	static const char *const compressions[] = { [QCOW2_ZLIB] = "zlib", [QCOW2_ZSTD] = "zstd" };

	json_object_set_new(facts, "version", json_integer(header->version));
	json_object_set_new(facts, "cluster_size",
			    json_integer((json_int_t)qcow2_cluster_size(header)));
	json_object_set_new(facts, "refcount_bits", json_integer(1 << header->refcount_order));
	json_object_set_new(facts, "compression", json_string(compressions[header->compression]));
	json_object_set_new(facts, "snapshots", json_integer(header->snapshots));
	json_object_set_new(facts, "lazy_refcounts",
			    json_boolean(header->compatible & QCOW2_LAZY_REFCOUNTS));
	json_object_set_new(facts, "dirty", json_boolean(header->incompatible & QCOW2_DIRTY));
	json_object_set_new(facts, "corrupt", json_boolean(header->incompatible & QCOW2_CORRUPT));
	if (*header->backing)
		json_object_set_new(facts, "backing", json_string(header->backing));
	if (*header->backing_format)
		json_object_set_new(facts, "backing_format", json_string(header->backing_format));
}

static void print_facts(json_t *facts)
{
	const char *key;
	json_t *value;

	json_object_foreach(facts, key, value) {
		for (const char *c = key; *c; c++)
			putchar(*c == '_' ? ' ' : *c);
		if (json_is_integer(value))
			printf(": %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
		else if (json_is_boolean(value))
			printf(": %s\n", json_is_true(value) ? "yes" : "no");
		else
			printf(": %s\n", json_string_value(value));
	}
}

static int describe(json_t *facts, const struct image_conf *conf, int fd)
{
	struct qcow2_header header;
	const char *reason;
	uint64_t file_size;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail(conf->path, "%s", strerror(errno));
	if (conf->format != BLOCK_FORMAT_QCOW2) {
		if (is_disguised(fd, conf->format))
			return fail_disguised(conf->path);
		describe_file(facts, conf->path, "raw", (uint64_t)lseek(fd, 0, SEEK_END), &st);
		return 0;
	}
	if (qcow2_header_read(fd, &header, &file_size, &reason) < 0)
		return fail(conf->path, "%s", reason);
	describe_file(facts, conf->path, "qcow2", header.size, &st);
	describe_qcow2(facts, &header);
	return 0;
}

static int run_info(const struct image_conf *conf)
{
	_cleanup_close_ int fd = -1;
	json_t *facts;
	int status;

	if (open_to_look(conf->path, &fd))
		return EXIT_FAILURE;
	facts = json_object();
	status = describe(facts, conf, fd);
	if (status == 0 && conf->json) {
		json_dumpf(facts, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (status == 0) {
		print_facts(facts);
	}
	json_decref(facts);
	return status;
}

/* ---- resize ---- */

static int permit(const struct image_conf *conf, uint64_t size)
{
	if (check_size(conf))
		return EXIT_FAILURE;
	if (conf->size < size && !conf->shrink)
		return fail(conf->path, "it is larger, and what is behind the new end would be lost: "
					"add --shrink if that is wanted");
	return 0;
}

static int resize_raw(const struct image_conf *conf, const struct block_image *image)
{
	if (is_disguised(image->fd, conf->format))
		return fail_disguised(conf->path);
	if (image->device)
		return fail(conf->path, "it is a block device, whose size is the host's");
	if (permit(conf, image->size))
		return EXIT_FAILURE;
	if (ftruncate(image->fd, (off_t)conf->size) < 0 || fsync(image->fd) < 0)
		return fail(conf->path, "%s", strerror(errno));
	return EXIT_SUCCESS;
}

/* What a backing file has behind the disk's end must not come to light. */
static int check_backing(const struct image_conf *conf, const struct qcow2_header *header)
{
	bool raw = !strcmp(header->backing_format, block_formats[BLOCK_FORMAT_RAW]);
	uint64_t size = 0;

	if (!*header->backing || conf->size <= header->size)
		return 0;
	if (!*header->backing_format)
		return fail(conf->path, "it does not say what format its backing file has");
	if (backing_size(conf->path, header->backing, raw ? BLOCK_FORMAT_RAW : BLOCK_FORMAT_QCOW2,
			 &size))
		return EXIT_FAILURE;
	if (size > header->size)
		return fail(conf->path, "its backing file is larger than it is: more of that would show");
	return 0;
}

static int resize_qcow2(const struct image_conf *conf, const struct block_image *image)
{
	struct qcow2_header header;
	const char *reason;
	uint64_t file_size;

	if (image->device)
		return fail(conf->path, "an image on a block device cannot be resized");
	if (qcow2_header_read(image->fd, &header, &file_size, &reason) < 0)
		return fail(conf->path, "%s", reason);
	if (permit(conf, header.size) || check_backing(conf, &header))
		return EXIT_FAILURE;
	if (qcow2_resize(image->fd, conf->size, &reason) < 0)
		return fail(conf->path, "%s", reason);
	return EXIT_SUCCESS;
}

static int run_resize(const struct image_conf *conf)
{
	_cleanup_(block_image_close) struct block_image image = { .fd = -1 };

	if (open_image(&image, conf->path, false))
		return EXIT_FAILURE;
	return conf->format == BLOCK_FORMAT_QCOW2 ? resize_qcow2(conf, &image)
						  : resize_raw(conf, &image);
}

/* ---- check ---- */

static void print_findings(const char *path, const struct qcow2_findings *findings)
{
	const struct {
		uint64_t count;
		const char *what;
	} rows[] = {
		{ findings->broken, "broken entries of tables" },
		{ findings->low, "clusters whose reference count is too low" },
		{ findings->flags, "entries with a wrong flag of their reference count" },
		{ findings->leaks, "clusters lost to nobody (leaks)" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].count)
			printf("%s: %" PRIu64 " %s\n", path, rows[i].count, rows[i].what);
	printf("%s: %" PRIu64 " clusters allocated, %" PRIu64 " of them compressed; %s\n", path,
	       findings->allocated, findings->compressed,
	       qcow2_corruptions(findings) ? "it is damaged" : findings->leaks ? "it is sound but "
	       "for leaks, --repair leaks gives them back" : "it is sound");
}

static int run_check(const struct image_conf *conf)
{
	_cleanup_(block_image_close) struct block_image image = { .fd = -1 };
	struct qcow2_findings findings;
	const char *reason;

	if (conf->format == BLOCK_FORMAT_RAW)
		return fail(conf->path, "there is nothing to check in a raw image");
	if (open_image(&image, conf->path, conf->repair == QCOW2_REPAIR_NOTHING))
		return EXIT_FAILURE;
	if (qcow2_check(image.fd, (enum qcow2_repair)conf->repair, &findings, &reason) < 0)
		return fail(conf->path, "%s", reason);
	print_findings(conf->path, &findings);
	if (qcow2_corruptions(&findings))
		return STATUS_CORRUPT;
	return findings.leaks ? STATUS_LEAKS : EXIT_SUCCESS;
}

/* ---- the command line ---- */

#define ROW_PATH { "path", OPT_STRING, .bare = true, .required = true, \
		   .offset = offsetof(struct image_conf, path), .arg = "PATH" }
#define ROW_FORMAT(text) { "format", OPT_CHOICE, .offset = offsetof(struct image_conf, format), \
			   .choices = block_formats, .help = (text) }

static const struct opt create_opts[] = {
	ROW_PATH,
	{ "size", OPT_SIZE, .bare = true, .offset = offsetof(struct image_conf, size), .min = 512,
	  .arg = "SIZE" },
	ROW_FORMAT("the default is raw"),
	{ "preallocation", OPT_CHOICE, .offset = offsetof(struct image_conf, preallocation),
	  .choices = preallocations, .help = "set the space aside, or write all of it" },
	{ "cluster-size", OPT_SIZE, .offset = offsetof(struct image_conf, cluster_size),
	  .min = 1 << QCOW2_CLUSTER_BITS_MIN, .max = 1 << QCOW2_CLUSTER_BITS_MAX,
	  .power_of_two = true, .arg = "SIZE", .help = "of qcow2; 64K unless given" },
	{ "backing", OPT_STRING, .offset = offsetof(struct image_conf, backing), .arg = "FILE",
	  .help = "of qcow2: read from there what is not in the image; SIZE may be left out" },
	{ "backing-format", OPT_CHOICE, .offset = offsetof(struct image_conf, backing_format),
	  .choices = block_formats, .help = "what the backing file is: it has to be said" },
	{ "force", OPT_BOOL, .offset = offsetof(struct image_conf, force),
	  .help = "replace a file that is there" },
	{ 0 },
};

static const struct opt info_opts[] = {
	ROW_PATH,
	ROW_FORMAT("the default is raw, and refuses what looks like qcow2"),
	{ "json", OPT_BOOL, .offset = offsetof(struct image_conf, json), .help = "print JSON" },
	{ 0 },
};

static const struct opt resize_opts[] = {
	ROW_PATH,
	{ "size", OPT_SIZE, .bare = true, .required = true,
	  .offset = offsetof(struct image_conf, size), .min = 512, .arg = "SIZE" },
	ROW_FORMAT("the default is raw, and refuses what looks like qcow2"),
	{ "shrink", OPT_BOOL, .offset = offsetof(struct image_conf, shrink),
	  .help = "make it smaller, and lose what is behind" },
	{ 0 },
};

static const struct opt check_opts[] = {
	ROW_PATH,
	ROW_FORMAT("the default is qcow2, as there is nothing to check in others"),
	{ "repair", OPT_CHOICE, .offset = offsetof(struct image_conf, repair), .choices = repairs,
	  .help = "give leaks back; or correct counts and flags, too" },
	{ 0 },
};

static const struct image_command commands[] = {
	{ "create", "PATH SIZE", "make an empty image", create_opts, run_create },
	{ "info", "PATH", "tell what an image is", info_opts, run_info },
	{ "resize", "PATH SIZE", "change the size of an image's disk", resize_opts, run_resize },
	{ "check", "PATH", "look for damage; status 2 if there is, 3 for leaks only", check_opts,
	  run_check },
};

static void help_command(const struct image_command *command, FILE *out)
{
	fprintf(out, "microvm image %s %s: %s\n\n", command->name, command->words, command->summary);
	for (const struct opt *opt = command->opts; opt->key; opt++)
		if (!opt->bare)
			help_print_opt(out, "--", " ", opt);
}

void image_help(FILE *out)
{
	fputs("microvm image COMMAND: makes disk images and looks after them\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		fputc('\n', out);
		help_command(&commands[i], out);
	}
}

static const struct opt *nth_bare(const struct opt *opts, unsigned int n)
{
	for (; opts->key; opts++)
		if (opts->bare && n-- == 0)
			return opts;
	return NULL;
}

static const struct opt *find_option(const struct opt *opts, const char *name, size_t len)
{
	for (; opts->key; opts++)
		if (!opts->bare && strlen(opts->key) == len && !strncmp(opts->key, name, len))
			return opts;
	return NULL;
}

static int fail_option(const struct image_command *command, const char *word)
{
	struct opt_guess guess = { .word = word + 2 };

	for (const struct opt *opt = command->opts; opt->key; opt++)
		if (!opt->bare)
			opt_guess(&guess, opt->key);
	if (guess.name)
		return fail(word, "there is no such option, did you mean --%s?", guess.name);
	return fail(word, "there is no such option, microvm image --help lists them");
}

static int read_words(const struct image_command *command, int count, char *const *words,
		      struct image_conf *conf)
{
	struct opt_error error = { "" };
	unsigned int bare = 0;

	for (int i = 0; i < count; i++) {
		const char *word = words[i], *equals = strchr(word, '='), *value = word;
		const struct opt *opt;

		if (strncmp(word, "--", 2)) {
			opt = nth_bare(command->opts, bare++);
			if (!opt)
				return fail(word, "this is a word too many: microvm image %s %s",
					    command->name, command->words);
		} else {
			opt = find_option(command->opts, word + 2, strcspn(word + 2, "="));
			if (!opt)
				return fail_option(command, word);
			if (equals)
				value = equals + 1;
			else if (opt->type == OPT_BOOL)
				value = "on";
			else
				value = i + 1 < count ? words[++i] : "";
		}
		if (opt_set(command->opts, opt->key, value, conf, &error) < 0)
			return fail(word, "%s", error.text);
	}
	return 0;
}

static int run(const struct image_command *command, int count, char *const *words)
{
	struct image_conf conf = { 0 };
	struct opt_error error;
	int status;

	if (count && (!strcmp(words[0], "--help") || !strcmp(words[0], "-h"))) {
		help_command(command, stdout);
		return EXIT_SUCCESS;
	}
	status = read_words(command, count, words, &conf);
	if (status == 0 && opt_complete(command->opts, &conf, &error) < 0)
		status = fail(command->name, "a word is missing: microvm image %s %s",
			      command->name, command->words);
	if (status == 0)
		status = command->run(&conf);
	opt_free(command->opts, &conf);
	return status;
}

int image_run(int count, char *const *words)
{
	struct opt_guess guess = { .word = count ? words[0] : "" };

	if (count && (!strcmp(words[0], "--help") || !strcmp(words[0], "-h"))) {
		image_help(stdout);
		return EXIT_SUCCESS;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (count && !strcmp(words[0], commands[i].name))
			return run(&commands[i], count - 1, words + 1);
		opt_guess(&guess, commands[i].name);
	}
	if (guess.name)
		return fail("image", "there is no %s, did you mean %s?", words[0], guess.name);
	return fail("image", "say what to do: create, info, resize or check (microvm image --help "
			     "tells more)");
}
