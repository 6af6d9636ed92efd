/* SPDX-License-Identifier: Apache-2.0 */
/* An Image as Linux has it (Documentation/arm64/booting.rst), to main() at EL1 with caches on. */
#include "layout.h"

#define IMAGE_4K_PAGES 2
#define MAIR 0xff04		/* 0: device, 1: memory */
#define TCR 0x803519		/* 39 bits, walks as memory is cached, no upper half */
#define SCTLR_M_C_I 0x1005
#define BLOCK 0x401		/* valid, accessed */
#define DEVICE (BLOCK | 3 << 53)	/* never executed */
#define MEMORY (BLOCK | 1 << 2 | 3 << 8)	/* inner shareable */

	.section .text.start, "ax"
	.globl start
start:	b enter
	.long 0
	.quad 0			/* text_offset */
	.quad image_size
	.quad IMAGE_4K_PAGES
	.quad 0, 0, 0
	.ascii "ARM\x64"
	.long 0

enter:	ldr x0, =stack_end
	mov sp, x0
	ldr x0, =vectors
	msr vbar_el1, x0
	mov x0, MAIR
	msr mair_el1, x0
	ldr x0, =TCR
	msr tcr_el1, x0
	ldr x0, =blocks
	msr ttbr0_el1, x0
	tlbi vmalle1
	dsb sy
	isb
	mrs x0, sctlr_el1
	ldr x1, =SCTLR_M_C_I
	orr x0, x0, x1
	msr sctlr_el1, x0
	isb
	bl main

on_interrupt:
	stp x0, x1, [sp, -16]!
	mrs x0, S3_0_C12_C12_0	/* ICC_IAR1_EL1 */
	sub x1, x0, INTID_SPECIAL
	cmp x1, 4
	b.lo 1f
	msr S3_0_C12_C12_1, x0	/* ICC_EOIR1_EL1 */
	ldr x0, =interrupt_count
	ldr w1, [x0]
	add w1, w1, 1
	str w1, [x0]
1:	ldp x0, x1, [sp], 16
	eret

	.ltorg
	.balign 2048
vectors:
	.set vector, 0
	.rept 16
	.balign 128
	.if vector == 5		/* IRQ at EL1 with its own stack */
	b on_interrupt
	.else
	b on_fault
	.endif
	.set vector, vector + 1
	.endr

	.data
	/* Memory where it is, by the GiB. */
	.balign 4096
blocks:	.quad DEVICE
	.quad RAM | MEMORY
	.skip 4096 - 16

	.bss
	.balign 4096
	.globl interrupt_count, interrupts_seen
interrupt_count:
	.skip 64		/* cache lines of their own */
interrupts_seen:
	.skip 64
	.skip 65536 - 128
stack_end:

	.section .note.GNU-stack, "", @progbits
