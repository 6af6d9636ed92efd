// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <sys/eventfd.h>
#include "core/state.h"
#include "core/util.h"
#include "devices/pci/pci.h"

#define VECTORS 70 /* more than one word of pending bits */
#define PINS 24
#define TABLE 0x8000
#define PBA 0x3000

struct fixture {
	struct irq_router router;
	struct pci_function function;
	struct msix *msix;
	unsigned int cap;
};

static void setup(struct fixture *f)
{
	*f = (struct fixture){ 0 };
	assert_int_equal(irq_router_init(&f->router, -1, 0, PINS, (struct irq_msi_pins){ 0 }), 0);
	pci_function_init(&f->function, 1, 2, 3, 4);
	assert_int_equal(msix_new(&f->function, &f->router, VECTORS, 2, TABLE, PBA, &f->msix), 0);
	f->cap = f->function.config[PCI_CAPABILITY_LIST];
}

static void teardown(struct fixture *f)
{
	msix_free(f->msix);
	irq_router_free(&f->router);
}

static void control(struct fixture *f, uint16_t flags)
{
	memcpy(f->function.config + f->cap + PCI_MSIX_FLAGS, &flags, 2);
	msix_control(f->msix, &f->function);
}

static void mask(struct fixture *f, unsigned int vector, bool masked)
{
	msix_table_write(f->msix, 16 * vector + 12, 4, masked);
}

static bool pending(struct fixture *f, unsigned int vector)
{
	return msix_pba_read(f->msix, vector / 8, 1) >> vector % 8 & 1;
}

static void test_capability(void **state)
{
	struct fixture f;
	uint32_t value;

	(void)state;
	setup(&f);
	assert_int_equal(f.function.config[f.cap], PCI_CAP_ID_MSIX);
	memcpy(&value, f.function.config + f.cap + PCI_MSIX_TABLE, 4);
	assert_int_equal(value, TABLE | 2);
	memcpy(&value, f.function.config + f.cap + PCI_MSIX_PBA, 4);
	assert_int_equal(value, PBA | 2);
	assert_int_equal(f.function.config[f.cap + PCI_MSIX_FLAGS], VECTORS - 1);
	assert_int_equal(f.function.writable[f.cap + PCI_MSIX_FLAGS], 0);
	assert_int_equal(f.function.writable[f.cap + PCI_MSIX_FLAGS + 1], 0xc0);
	assert_int_equal(msix_count(f.msix), VECTORS);
	teardown(&f);
}

/* Every offset and width: within the table, aligned, 4 or 8 wide; the rest is not there. */
static void test_table_access(void **state)
{
	const uint64_t end = VECTORS * 16;
	struct fixture f;

	(void)state;
	setup(&f);
	for (unsigned int i = 0; i < VECTORS; i++) {
		assert_int_equal(msix_table_read(f.msix, 16 * i, 8), 0);
		assert_int_equal(msix_table_read(f.msix, 16 * i + 8, 8), 1ULL << 32);
	}
	for (unsigned int len = 1; len <= 8; len *= 2) {
		for (uint64_t offset = 0; offset < end + 64; offset++) {
			bool there = len >= 4 && offset % len == 0 && offset + len <= end;
			uint64_t value = len == 8 ? 0x1122334455667788 : 0x55667788;

			msix_table_write(f.msix, offset, len, value);
			assert_int_equal(msix_table_read(f.msix, offset, len), there ? value : 0);
			msix_table_write(f.msix, offset, len, 0);
		}
	}
	msix_table_write(f.msix, UINT64_MAX - 7, 8, 1);
	assert_int_equal(msix_table_read(f.msix, UINT64_MAX - 3, 4), 0);
	teardown(&f);
}

static void test_pending(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	/* Off, the function masked, the vector masked: each alone keeps it pending. */
	for (int what = 0; what < 3; what++) {
		for (unsigned int vector = 0; vector < VECTORS; vector += 23) {
			control(&f, what == 0 ? 0 : what == 1 ? 0xc000 : 0x8000);
			mask(&f, vector, what == 2);
			assert_false(pending(&f, vector));
			msix_raise(f.msix, vector);
			for (unsigned int i = 0; i < VECTORS; i++)
				assert_int_equal(pending(&f, i), i == vector);
			mask(&f, vector, false);
			control(&f, 0x8000);
			assert_false(pending(&f, vector));
			eventfd_read(msix_fd(f.msix, vector), &(eventfd_t){ 0 }); /* as KVM does */
			control(&f, 0);
			assert_false(pending(&f, vector));
		}
	}
	teardown(&f);
}

static void test_pending_words(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	for (unsigned int i = 0; i < VECTORS; i++)
		msix_raise(f.msix, i);
	assert_int_equal(msix_pba_read(f.msix, 0, 8), UINT64_MAX);
	assert_int_equal(msix_pba_read(f.msix, 8, 8), (1ULL << (VECTORS - 64)) - 1);
	assert_int_equal(msix_pba_read(f.msix, 4, 4), UINT32_MAX);
	assert_int_equal(msix_pba_read(f.msix, 8, 1), (1ULL << (VECTORS - 64)) - 1);
	for (uint64_t offset = 9; offset < 0x1000; offset++)
		assert_int_equal(msix_pba_read(f.msix, offset, 8), 0);
	msix_reset(f.msix, &f.function);
	assert_int_equal(msix_pba_read(f.msix, 0, 8), 0);
	teardown(&f);
}

/* The route in KVM's table, or NULL. */
static const struct kvm_irq_routing_msi *route(struct fixture *f, unsigned int index)
{
	const struct kvm_irq_routing *table = f->router.table;

	return index < table->nr - PINS ? &table->entries[PINS + index].u.msi : NULL;
}

static void test_routes(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	/* What is masked is not routed: KVM's table changes once for each vector that is used. */
	msix_table_write(f.msix, 16, 8, 0x11fee00000);
	msix_table_write(f.msix, 24, 4, 0x4041);
	mask(&f, 1, false);
	assert_null(route(&f, 0));
	control(&f, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(route(&f, 0)->address_lo, 0xfee00000);
	assert_int_equal(route(&f, 0)->address_hi, 0x11);
	assert_int_equal(route(&f, 0)->data, 0x4041);
	assert_null(route(&f, 1));

	/* Changed while it is not masked, it goes there from then on. */
	msix_table_write(f.msix, 24, 4, 0x4042);
	assert_int_equal(route(&f, 0)->data, 0x4042);
	/* And while it is masked, when it is not any more. */
	mask(&f, 1, true);
	msix_table_write(f.msix, 24, 4, 0x4043);
	assert_int_equal(route(&f, 0)->data, 0x4042);
	mask(&f, 1, false);
	assert_int_equal(route(&f, 0)->data, 0x4043);
	teardown(&f);
}

static void test_refused_route(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	control(&f, PCI_MSIX_FLAGS_ENABLE);
	f.router.vm_fd = msix_fd(f.msix, 0); /* no VM: it refuses */
	msix_table_write(f.msix, 0, 4, 0xfee00000);
	mask(&f, 0, false);
	/* Masked in effect: nothing is lost when it is programmed well later. */
	msix_raise(f.msix, 0);
	assert_true(pending(&f, 0));
	f.router.vm_fd = -1;
	mask(&f, 0, false);
	assert_false(pending(&f, 0));
	teardown(&f);
}

static void test_no_room(void **state)
{
	struct pci_function function;
	struct irq_router router;
	struct msix *msix = NULL;
	uint8_t body[182] = { 0 };

	(void)state;
	assert_int_equal(irq_router_init(&router, -1, 0, PINS, (struct irq_msi_pins){ 0 }), 0);
	pci_function_init(&function, 1, 2, 3, 4);
	router.next_msi = router.first_msi + 1022;
	assert_int_equal(msix_new(&function, &router, 3, 0, 0, 0, &msix), -ENOSPC);
	assert_null(msix);
	pci_function_init(&function, 1, 2, 3, 4);
	assert_int_equal(pci_function_add_cap(&function, 9, body, sizeof(body)), 64);
	assert_int_equal(msix_new(&function, &router, 1, 0, 0, 0, &msix), -ENOSPC);
	assert_null(msix);
	msix_free(msix);
	irq_router_free(&router);
}

#define ROUNDS 3000

struct vcpu {
	pthread_t thread;
	struct fixture *f;
	unsigned int number;
};

/* Table, pending bits, control and interrupts, as vCPUs and workers do at the same time. */
static void *hammer(void *arg)
{
	const struct vcpu *vcpu = arg;
	struct fixture *f = vcpu->f;
	struct pci_function function = f->function;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		unsigned int vector = i * 7 % 4;
		uint16_t flags = (uint16_t)(i % 5 ? PCI_MSIX_FLAGS_ENABLE : i << 14);

		switch ((i + vcpu->number) % 6) {
		case 0:
			msix_table_write(f->msix, 16 * vector, 8, i);
			break;
		case 1:
			mask(f, vector, i & 64);
			break;
		case 2:
			(void)msix_pba_read(f->msix, 0, 8);
			break;
		case 3:
			memcpy(function.config + f->cap + PCI_MSIX_FLAGS, &flags, 2);
			msix_control(f->msix, &function);
			break;
		case 4:
			(void)msix_table_read(f->msix, 16 * vector, 8);
			break;
		default:
			msix_raise(f->msix, vector);
			if (i % 100 == 99)
				msix_reset(f->msix, &function);
			break;
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct vcpu vcpus[3];
	struct fixture f;

	(void)state;
	setup(&f);
	for (unsigned int i = 0; i < ARRAY_SIZE(vcpus); i++) {
		vcpus[i] = (struct vcpu){ .f = &f, .number = i };
		assert_int_equal(pthread_create(&vcpus[i].thread, NULL, hammer, &vcpus[i]), 0);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(vcpus); i++)
		pthread_join(vcpus[i].thread, NULL);
	msix_reset(f.msix, &f.function);
	msix_raise(f.msix, 3);
	assert_int_equal(msix_pba_read(f.msix, 0, 8), 1 << 3);
	teardown(&f);
}

/* Into another function: entries, masks, and what is pending. */
static void test_save(void **state)
{
	struct state saved = { 0 }, again = { 0 };
	struct state_reader reader;
	struct fixture f, g;

	(void)state;
	setup(&f);
	control(&f, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned int i = 0; i < VECTORS; i++) {
		msix_table_write(f.msix, 16 * i, 8, 0xfee00000 | i << 12);
		msix_table_write(f.msix, 16 * i + 8, 4, 0x20 + i);
		mask(&f, i, i % 3);
		if (i % 2)
			msix_raise(f.msix, i);
	}
	assert_int_equal(msix_save(f.msix, &saved), 0);

	setup(&g);
	memcpy(g.function.config, f.function.config, sizeof(g.function.config));
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(msix_load(g.msix, &g.function, &reader), 0);
	assert_int_equal(reader.left, 0);
	for (unsigned int i = 0; i < VECTORS; i++) {
		for (unsigned int offset = 16 * i; offset < 16 * i + 16; offset += 8)
			assert_int_equal(msix_table_read(g.msix, offset, 8),
					 msix_table_read(f.msix, offset, 8));
		assert_int_equal(pending(&g, i), i % 2 && i % 3);
	}
	assert_int_equal(msix_save(g.msix, &again), 0);
	assert_int_equal(again.len, saved.len);
	assert_memory_equal(again.data, saved.data, saved.len);
	teardown(&g);

	/* Cut off anywhere. */
	for (size_t len = 0; len < saved.len; len += 13) {
		setup(&g);
		reader = (struct state_reader){ saved.data, len };
		assert_int_equal(msix_load(g.msix, &g.function, &reader), -EINVAL);
		teardown(&g);
	}
	teardown(&f);
	state_free(&saved);
	state_free(&again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_capability),
		cmocka_unit_test(test_table_access),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_pending_words),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_refused_route),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_save),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
