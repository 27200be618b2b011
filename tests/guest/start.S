// SPDX-License-Identifier: Apache-2.0
/* Entry of a tiny guest: PVH note, flat 32-bit protected mode, a stack, then guest_main(). */
	.section .note.Xen, "a", @note
	.align 4
	.long 4                 /* name size */
	.long 4                 /* descriptor size */
	.long 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.align 4
	.long _start

	.section .text.start, "ax"
	.code32
	.global _start
_start:
	mov $stack_top, %esp
	xor %ebp, %ebp
	push %ebx               /* struct hvm_start_info */
	call guest_main
	call guest_finish       /* does not return */

	.bss
	.align 16
	.skip 16384
stack_top:
	.section .note.GNU-stack, "", @progbits
