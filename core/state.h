/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state: sections in a row, each with a name, a version and bytes that
 * hold no pointers. Whoever reads one checks it like a guest's input.
 */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include <stddef.h>
#include <stdint.h>

#define STATE_NAME_MAX 16

/* A save that grows; zeroed at first. */
struct state {
	uint8_t *data;
	size_t len, capacity;
};

/* A save that is read; data stays its owner's. */
struct state_reader {
	const uint8_t *data;
	size_t left;
};

/* Appends a section. name has less than STATE_NAME_MAX characters. -ENOMEM. */
int state_put(struct state *state, const char *name, uint32_t version, const void *data,
	      size_t len);
void state_free(struct state *state);

/* The next section's bytes, where they are, and moves on. -EINVAL, with nothing moved: it is not that. */
int state_view(struct state_reader *reader, const char *name, uint32_t version,
	       struct state_reader *ret_section);

/*
 * Copies the next section's bytes to data and moves on. -EINVAL, with nothing
 * moved or copied, when it has another name, version or length than those.
 */
int state_get(struct state_reader *reader, const char *name, uint32_t version, void *data,
	      size_t len);

#endif
