// SPDX-License-Identifier: Apache-2.0
/* An ELF vmlinux with a PVH note (Xen, docs/misc/pvh.pandoc; Linux, CONFIG_PVH). */
#include <elf.h>
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/layout.h"

#define SEGMENTS_MAX 64
#define NOTES_MAX KIB(64)
#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define LINUX_COMMAND_LINE_SIZE 2048 /* of which a PVH image does not tell */

struct elf {
	Elf64_Ehdr header;
	Elf64_Phdr segments[SEGMENTS_MAX];
};

static int read_headers(const struct boot_file *file, struct elf *elf)
{
	Elf64_Ehdr *header = &elf->header;

	if (boot_file_read(file, 0, header, SELFMAG) ||
	    memcmp(header->e_ident, ELFMAG, SELFMAG))
		return -ENOEXEC;
	if (boot_file_read(file, 0, header, sizeof(*header)))
		return -EBADMSG;
	if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
	    header->e_machine != EM_X86_64)
		return -ENOTSUP;
	if ((header->e_type != ET_EXEC && header->e_type != ET_DYN) ||
	    header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > SEGMENTS_MAX)
		return -EBADMSG;
	return boot_file_read(file, header->e_phoff, elf->segments,
			      header->e_phnum * sizeof(Elf64_Phdr));
}

static bool loadable(const Elf64_Phdr *segment)
{
	return segment->p_type == PT_LOAD && segment->p_memsz;
}

/* Memory must not depend on the order in which segments are loaded. */
static bool overlaps_earlier(const struct elf *elf, unsigned int index)
{
	const Elf64_Phdr *segment = &elf->segments[index];

	for (unsigned int i = 0; i < index; i++) {
		const Elf64_Phdr *other = &elf->segments[i];

		if (loadable(other) && segment->p_paddr < other->p_paddr + other->p_memsz &&
		    other->p_paddr < segment->p_paddr + segment->p_memsz)
			return true;
	}
	return false;
}

static int check_segments(const struct elf *elf, const struct boot_file *file,
			  const struct mem *mem, struct boot_kernel *kernel)
{
	uint64_t ram_end = kernel_ram_end(mem);

	kernel->base = UINT64_MAX;
	for (unsigned int i = 0; i < elf->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];

		if (!loadable(segment))
			continue;
		if (segment->p_filesz > segment->p_memsz ||
		    !util_within(segment->p_offset, segment->p_filesz, file->size))
			return -EBADMSG;
		if (segment->p_paddr < LAYOUT_KERNEL ||
		    !util_within(segment->p_paddr, segment->p_memsz, ram_end))
			return -E2BIG;
		if (overlaps_earlier(elf, i))
			return -EBADMSG;
		kernel->base = util_min(kernel->base, segment->p_paddr);
		kernel->end = util_max(kernel->end, segment->p_paddr + segment->p_memsz);
	}
	return kernel->end ? 0 : -EBADMSG;
}

static int load_segments(const struct elf *elf, const struct boot_file *file,
			 const struct mem *mem)
{
	for (unsigned int i = 0; i < elf->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];
		uint8_t *to;
		int err;

		if (!loadable(segment))
			continue;
		to = mem_ptr(mem, segment->p_paddr, segment->p_memsz);
		err = boot_file_read(file, segment->p_offset, to, segment->p_filesz);
		if (err)
			return err;
		memset(to + segment->p_filesz, 0, segment->p_memsz - segment->p_filesz);
	}
	return 0;
}

/* -ENODATA when the entry is not among these notes. */
static int find_entry(const uint8_t *notes, size_t len, uint64_t align, uint64_t *ret_entry)
{
	size_t offset = 0;

	while (util_within(offset, sizeof(Elf64_Nhdr), len)) {
		const uint8_t *name = notes + offset + sizeof(Elf64_Nhdr);
		Elf64_Nhdr note;
		uint64_t desc, entry = 0;

		memcpy(&note, notes + offset, sizeof(note));
		desc = util_align_up(offset + sizeof(note) + note.n_namesz, align);
		if (!util_within(desc, note.n_descsz, len))
			return -EBADMSG;
		if (note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && note.n_namesz == sizeof("Xen") &&
		    !memcmp(name, "Xen", sizeof("Xen"))) {
			if (note.n_descsz != 4 && note.n_descsz != 8)
				return -EBADMSG;
			memcpy(&entry, notes + desc, note.n_descsz);
			*ret_entry = entry;
			return 0;
		}
		offset = util_align_up(desc + note.n_descsz, align);
	}
	return -ENODATA;
}

static int read_entry(const struct elf *elf, const struct boot_file *file, uint64_t *ret_entry)
{
	for (unsigned int i = 0; i < elf->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &elf->segments[i];
		_cleanup_free_ uint8_t *notes = NULL;
		int err;

		if (segment->p_type != PT_NOTE)
			continue;
		if (segment->p_filesz > NOTES_MAX)
			return -EBADMSG;
		notes = malloc(segment->p_filesz);
		if (segment->p_filesz && !notes)
			return -ENOMEM;
		err = boot_file_read(file, segment->p_offset, notes, segment->p_filesz);
		if (!err)
			err = find_entry(notes, segment->p_filesz, segment->p_align == 8 ? 8 : 4,
					 ret_entry);
		if (err != -ENODATA)
			return err;
	}
	return -ENOTSUP;
}

int kernel_load_elf(const struct boot_file *file, const struct mem *mem,
		    struct boot_kernel *ret_kernel)
{
	struct boot_kernel kernel = {
		.protocol = KERNEL_PVH,
		.initrd_room = kernel_initrd_room(mem, UINT32_MAX),
		.cmdline_max = LINUX_COMMAND_LINE_SIZE - 1,
	};
	struct elf elf;
	int err;

	err = read_headers(file, &elf);
	if (!err)
		err = read_entry(&elf, file, &kernel.entry);
	if (!err)
		err = check_segments(&elf, file, mem, &kernel);
	if (!err && (kernel.entry < kernel.base || kernel.entry >= kernel.end))
		err = -EBADMSG;
	if (!err)
		err = load_segments(&elf, file, mem);
	if (!err)
		*ret_kernel = kernel;
	return err;
}
