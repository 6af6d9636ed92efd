/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the PVH entry to main() at CPL 3, where it stays.
 *
 * Some KVMs have no hardware to virtualize with: they run CPL 3 natively and
 * interpret everything at CPL 0, some 1000 times slower. So what is measured
 * runs at CPL 3 on all of them, with all memory and all ports open to it, and
 * what has to be at CPL 0 is a few instructions.
 */
#define __ASSEMBLY__
#include "layout.h"

#define CR0_PG_WP_NE_ET_MP_PE 0x80010033
#define CR4_OSXMMEXCPT_OSFXSR_PAE 0x620
#define EFER 0xc0000080
#define EFER_LME 0x100
#define KVM_SYSTEM_TIME 0x4b564d01
#define TSS_IO_BITMAP 104
#define PAGE_USER 0x7		/* present, writable, user */
#define PAGE_USER_LARGE 0xe7	/* and accessed, dirty, 2 MiB */

#define CODE0 0x08
#define DATA0 0x10
#define DATA3 0x1b
#define CODE3 0x23
#define TSS 0x28

	.section .note.pvh, "a", @note
	.long 4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.section .text.start, "ax"
	.code32
	.globl start
start:	mov $CR4_OSXMMEXCPT_OSFXSR_PAE, %eax
	mov %eax, %cr4
	mov $pml4, %eax
	mov %eax, %cr3
	mov $EFER, %ecx
	mov $EFER_LME, %eax
	xor %edx, %edx
	wrmsr
	mov $CR0_PG_WP_NE_ET_MP_PE, %eax
	mov %eax, %cr0
	mov $tss, %eax
	mov %ax, gdt + TSS + 2
	shr $16, %eax
	mov %al, gdt + TSS + 4
	mov %ah, gdt + TSS + 7
	lgdt gdt_pointer
	ljmp $CODE0, $long_mode

	.code64
long_mode:
	mov $DATA0, %eax
	mov %eax, %ss
	mov $kernel_stack_end, %esp
	mov $TSS, %eax
	ltr %ax
	lidt idt_pointer
	mov $KVM_SYSTEM_TIME, %ecx
	mov $clock + 1, %eax	/* enabled */
	xor %edx, %edx
	wrmsr
	push $DATA3
	push $user_stack_end - 8	/* as if it had been called */
	push $0x202		/* interrupts are on */
	push $CODE3
	push $main
	iretq

	/* ---- what runs at CPL 0 from here on ---- */

	.globl on_interrupt, on_spurious, on_sleep, on_fault
on_interrupt:
	incl interrupt_count
	movabs %eax, LAPIC + LAPIC_EOI	/* any value will do */
on_spurious:
	iretq

	/* int3: halts, unless there was an interrupt since the caller looked. */
on_sleep:
	push %rax
	mov interrupt_count, %eax
	cmp interrupts_seen, %eax
	pop %rax
	jne 1f
	sti
	hlt
1:	iretq

on_fault:
	mov $message, %esi
	mov $MESSAGE_LEN, %ecx
	mov $SERIAL, %edx
	cld
	rep outsb
	mov $DEBUG_EXIT, %edx
	xor %eax, %eax
	out %eax, %dx
1:	hlt
	jmp 1b

	.data
message: .ascii "! an exception\n"
	.set MESSAGE_LEN, . - message

	.balign 16
gdt:	.quad 0
	.quad 0x00af9b000000ffff	/* CODE0 */
	.quad 0x00cf93000000ffff	/* DATA0 */
	.quad 0x00cff3000000ffff	/* DATA3 */
	.quad 0x00affb000000ffff	/* CODE3 */
	.quad 0x0000890000002068, 0	/* TSS; its address is filled in */
	.set GDT_LEN, . - gdt
gdt_pointer:
	.word GDT_LEN - 1
	.quad gdt
idt_pointer:
	.word IDT_LEN - 1
	.quad idt

	/* Memory where it is, 4 GiB. */
	.balign 4096
pml4:	.quad page_directory_pointers + PAGE_USER
	.balign 4096
page_directory_pointers:
	.quad page_directories + 0x0000 + PAGE_USER
	.quad page_directories + 0x1000 + PAGE_USER
	.quad page_directories + 0x2000 + PAGE_USER
	.quad page_directories + 0x3000 + PAGE_USER
	.balign 4096
page_directories:
	.set page, 0
	.rept 2048
	.quad (page << 21) + PAGE_USER_LARGE
	.set page, page + 1
	.endr

tss:	.long 0
	.quad kernel_stack_end
	.skip TSS_IO_BITMAP - 14
	.word TSS_IO_BITMAP
	.skip 8192		/* each port is permitted */
	.byte 0xff

	.bss
	.balign 4096
	.globl idt, clock, interrupt_count, interrupts_seen
idt:	.skip IDT_LEN
clock:	.skip 64		/* struct pvclock_vcpu_time_info */
interrupt_count:
	.skip 64		/* cache lines of their own */
interrupts_seen:
	.skip 64
	.skip 4096
kernel_stack_end:
	.skip 65536
user_stack_end:

	.section .note.GNU-stack, "", @progbits
