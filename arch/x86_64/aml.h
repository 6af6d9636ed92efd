/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer of ACPI machine language (ACPI 6.4, chapter 20; resources: 6.4).
 *
 * Terms with a body are opened by a call and closed by aml_end(), innermost
 * first. Nothing fails on the way: what does not fit is dropped, and
 * aml_finish() tells.
 */
#ifndef ARCH_X86_64_AML_H
#define ARCH_X86_64_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH 8

struct aml {
	uint8_t *data; /* the caller's */
	size_t size, len;
	bool full;
	unsigned int depth;
	struct {
		size_t start; /* of the body, in front of which its length will be inserted */
		bool resources;
	} open[AML_DEPTH];
};

void aml_init(struct aml *aml, void *buffer, size_t size);
/* With all terms closed: 0 and the bytes written, or -ENOSPC when the buffer was too small. */
int aml_finish(const struct aml *aml, size_t *ret_len);

/* A name is a path such as "\\_SB.PWRB"; its segments are padded to four characters. */
void aml_scope(struct aml *aml, const char *name);
void aml_device(struct aml *aml, const char *name);
void aml_method(struct aml *aml, const char *name, unsigned int args);
/* _CRS: the descriptors below, until aml_end(). */
void aml_resources(struct aml *aml);
void aml_end(struct aml *aml);

void aml_name_int(struct aml *aml, const char *name, uint64_t value);
/* Seven characters ("PNP0A08") are an EISA id and packed as such, others a string. */
void aml_name_id(struct aml *aml, const char *name, const char *id);
void aml_name_package(struct aml *aml, const char *name, const uint64_t *values, uint8_t count);

/* In a method. */
void aml_notify(struct aml *aml, const char *name, uint64_t value);

/* Registers at a fixed address. */
void aml_res_memory(struct aml *aml, uint32_t base, uint32_t len);
void aml_res_ports(struct aml *aml, uint16_t base, uint8_t len);
/* Edge-triggered, active high, exclusive. */
void aml_res_interrupt(struct aml *aml, uint32_t gsi);
/* What a bridge hands on to the devices behind it. len > 0 */
void aml_res_window(struct aml *aml, uint64_t base, uint64_t len);
void aml_res_port_window(struct aml *aml, uint16_t base, uint16_t len);
void aml_res_buses(struct aml *aml, uint8_t first, uint8_t last);

#endif
