// SPDX-License-Identifier: Apache-2.0
/*
 * 64-bit code at privilege level 0, as a kernel is: real mode is emulated by
 * some KVMs that run everything else natively. It needs page tables and no
 * descriptor table, for nothing loads a segment.
 */
#include <asm/processor-flags.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include "arch/arch.h"
#include "core/util.h"

#define CODE 0x1000
#define PML4 0x2000
#define PDPT 0x3000
#define PD 0x4000
#define END 0x5000

#define PTE_PRESENT 0x1
#define PTE_WRITE 0x2
#define PTE_LARGE 0x80

#define EFER_LME 0x100
#define EFER_LMA 0x400

static const uint8_t code[] = {
	0xff, 0xc9, /* 1: dec %ecx */
	0x75, 0xfc, /*    jnz 1b */
	0xee,       /*    out %al, %dx */
	0xf4,       /*    hlt */
};

static void put_entry(uint8_t *ram, uint64_t table, uint64_t entry)
{
	memcpy(ram + table, &entry, sizeof(entry));
}

/* The first 2 MiB, mapped where they are. */
static void put_page_tables(uint8_t *ram)
{
	put_entry(ram, PML4, PDPT | PTE_PRESENT | PTE_WRITE);
	put_entry(ram, PDPT, PD | PTE_PRESENT | PTE_WRITE);
	put_entry(ram, PD, PTE_PRESENT | PTE_WRITE | PTE_LARGE);
}

static int set_long_mode(int vcpu_fd)
{
	const struct kvm_segment cs = { .limit = ~0U, .selector = 0x8, .type = 0xb, .present = 1,
					.s = 1, .l = 1, .g = 1 };
	const struct kvm_segment data = { .limit = ~0U, .selector = 0x10, .type = 0x3, .present = 1,
					  .s = 1, .db = 1, .g = 1 };
	struct kvm_sregs sregs;

	if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	sregs.cs = cs;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET | X86_CR0_NE;
	sregs.cr3 = PML4;
	sregs.cr4 = X86_CR4_PAE;
	sregs.efer = EFER_LME | EFER_LMA;
	return ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0 ? -errno : 0;
}

int arch_probe_guest(int vm_fd, int vcpu_fd, uint8_t *ram, size_t len, uint32_t loops)
{
	const struct kvm_regs regs = { .rip = CODE, .rcx = loops, .rsp = END,
				       .rdx = arch_layout.debug_exit.base, .rflags = 0x2 };
	int r;

	(void)vm_fd;
	if (len < END || loops == 0)
		return -EINVAL;
	memset(ram, 0, END);
	memcpy(ram + CODE, code, sizeof(code));
	put_page_tables(ram);
	r = set_long_mode(vcpu_fd);
	if (r)
		return r;
	return ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0 ? -errno : 0;
}
