// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/power_off.h"

#include <elf.h>
#include <stdint.h>

#define CODE_GPA 0x200000
#define XEN_ELFNOTE_PHYS32_ENTRY 18

static const struct {
	Elf64_Ehdr header;
	Elf64_Phdr segments[2];
	struct {
		Elf64_Nhdr header;
		char name[4];
		uint32_t entry;
	} note;
	uint8_t code[9];
} kernel = {
	.header = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
	},
	.segments = {
		{ .p_type = PT_LOAD, .p_paddr = CODE_GPA, .p_offset = offsetof(typeof(kernel), code),
		  .p_filesz = sizeof(kernel.code), .p_memsz = sizeof(kernel.code) },
		{ .p_type = PT_NOTE, .p_offset = offsetof(typeof(kernel), note),
		  .p_filesz = sizeof(kernel.note) },
	},
	.note = { { 4, 4, XEN_ELFNOTE_PHYS32_ENTRY }, "Xen", CODE_GPA },
	/* mov $0x600, %dx; mov $0x34, %al; out %al, %dx; jmp . */
	.code = { 0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xeb, 0xfe },
};

const void *const power_off_kernel = &kernel;
const size_t power_off_kernel_len = sizeof(kernel);
