// SPDX-License-Identifier: Apache-2.0
/* Directories read while they change. */
#include <dirent.h>
#include "tests/guest/fs/fstest.h"

#define MANY 400 /* unless the environment says otherwise */

static void make_many(unsigned int count)
{
	char name[32];

	for (unsigned int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "dir/file-%u", i);
		CHECK(!mknod(name, S_IFREG | 0600, 0));
	}
}

static unsigned int number_of(const struct dirent *entry)
{
	unsigned int i = UINT32_MAX;

	sscanf(entry->d_name, "file-%u", &i);
	return i;
}

static bool is_dots(const struct dirent *entry)
{
	return !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
}

static unsigned int count(DIR *dir)
{
	unsigned int found = 0;

	while (readdir(dir))
		found++;
	return found;
}

static void each_name_once(void)
{
	static bool seen[400];
	const struct dirent *entry;
	DIR *dir;

	CHECK(!mkdir("dir", 0755));
	make_many(ARRAY_SIZE(seen));
	dir = opendir("dir");
	while ((entry = readdir(dir))) {
		unsigned int i = number_of(entry);

		if (is_dots(entry))
			continue;
		CHECK(i < ARRAY_SIZE(seen) && !seen[i]);
		seen[i] = true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++)
		CHECK(seen[i]);
	rewinddir(dir);
	CHECK(count(dir) == ARRAY_SIZE(seen) + 2);
	CHECK(!closedir(dir));
}

static void kinds_are_told(void)
{
	static const struct {
		const char *name;
		unsigned char type;
	} kinds[] = { { "file", DT_REG }, { "sub", DT_DIR }, { "link", DT_LNK }, { "fifo", DT_FIFO } };
	const struct dirent *entry;
	unsigned int found = 0;
	DIR *dir;

	write_file("file", "");
	CHECK(!mkdir("sub", 0755) && !symlink("x", "link") && !mkfifo("fifo", 0600));
	dir = opendir(".");
	while ((entry = readdir(dir)))
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
			if (!strcmp(entry->d_name, kinds[i].name)) {
				CHECK(entry->d_type == kinds[i].type);
				CHECK(entry->d_ino == status(kinds[i].name).st_ino);
				found++;
			}
	CHECK(found == ARRAY_SIZE(kinds) && !closedir(dir));
}

/* As rm -r does it: what is not removed yet is still to come. */
static void removed_while_read(void)
{
	const char *wanted = getenv("MANY");
	const unsigned int many = wanted ? (unsigned int)atoi(wanted) : MANY;
	const struct dirent *entry;
	unsigned int removed = 0;
	char name[300];
	DIR *dir;

	CHECK(!mkdir("dir", 0755));
	make_many(many);
	dir = opendir("dir");
	while ((entry = readdir(dir))) {
		if (is_dots(entry))
			continue;
		snprintf(name, sizeof(name), "dir/%s", entry->d_name);
		CHECK(!unlink(name));
		removed++;
	}
	CHECK(!closedir(dir) && removed == many && !rmdir("dir"));
}

/* Whatever comes and goes, what stays is read once. */
static void changed_while_read(void)
{
	static unsigned int seen[250];
	const struct dirent *entry;
	unsigned int made = 0;
	char name[32];
	DIR *dir;

	CHECK(!mkdir("dir", 0755));
	make_many(ARRAY_SIZE(seen));
	dir = opendir("dir");
	while ((entry = readdir(dir))) {
		if (number_of(entry) < ARRAY_SIZE(seen))
			seen[number_of(entry)]++;
		if (made == 200)
			continue;
		snprintf(name, sizeof(name), "dir/new-%u", made++);
		CHECK(!mknod(name, S_IFREG | 0600, 0));
		if (made % 2)
			CHECK(!unlink(name));
	}
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++)
		CHECK(seen[i] == 1);
	CHECK(!closedir(dir));
}

static void places_are_found_again(void)
{
	char names[20][256];
	long places[20];
	DIR *dir;

	CHECK(!mkdir("dir", 0755));
	make_many(350);
	dir = opendir("dir");
	for (size_t i = 0; i < 20; i++) {
		for (unsigned int skipped = 0; skipped < 15; skipped++)
			CHECK(readdir(dir));
		places[i] = telldir(dir);
		snprintf(names[i], sizeof(names[i]), "%s", readdir(dir)->d_name);
	}
	for (size_t i = 20; i-- > 0;) {
		seekdir(dir, places[i]);
		CHECK(!strcmp(readdir(dir)->d_name, names[i]));
	}
	CHECK(!closedir(dir));
}

static void removed_is_empty(void)
{
	DIR *dir;

	CHECK(!mkdir("dir", 0755));
	dir = opendir("dir");
	CHECK(!rmdir("dir") && count(dir) == 0 && !closedir(dir));
	CHECK(!opendir("dir") && errno == ENOENT);
	write_file("file", "");
	CHECK(!opendir("file") && errno == ENOTDIR);
}

const struct fs_case dir_cases[] = {
	{ "each_name_once", each_name_once },
	{ "kinds_are_told", kinds_are_told },
	{ "removed_while_read", removed_while_read },
	{ "changed_while_read", changed_while_read },
	{ "places_are_found_again", places_are_found_again },
	{ "removed_is_empty", removed_is_empty },
	{ 0 },
};
