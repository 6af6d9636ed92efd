/* SPDX-License-Identifier: Apache-2.0 */
/* Packed kernels, straight into guest memory. */
#ifndef ARCH_AARCH64_UNPACK_H
#define ARCH_AARCH64_UNPACK_H

#include "boot/boot.h"

/* A stream within a file; what follows its end there does not count. */
struct packed {
	const struct boot_file *file;
	uint64_t offset, len;
};

/*
 * Unpacks gzip or zstd, whichever the magic says, to at most room bytes at to.
 * Returns how many, or -ENOEXEC: it is neither; -EBADMSG: truncated or damaged;
 * -E2BIG: more than there is room for; -ENOMEM.
 */
int64_t unpack(const struct packed *packed, void *to, uint64_t room);

#endif
