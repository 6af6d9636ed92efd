// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include "arch/arch.h"
#include "core/irq.h"
#include "core/util.h"

#define PINS 24
#define MSI_ADDR 0xfee00000
#define PIN_ADDR 0x8020040 /* where an MSI is a pin, */
#define PIN_DATA 32        /* this one the first */

static uint64_t count(const struct irq_line *line)
{
	eventfd_t n = 0;

	(void)eventfd_read(line->fd, &n);
	return n;
}

static void test_pin(void **state)
{
	struct irq_router router;
	struct irq_line line = { 0 };

	(void)state;
	assert_int_equal(irq_router_init(&router, -1, 0, PINS, (struct irq_msi_pins){ 0 }), 0);
	assert_int_equal(irq_line_pin(&router, &line, 5), 0);
	assert_int_equal(line.gsi, 5);
	assert_true(line.bound);
	irq_raise(&line);
	irq_raise(&line);
	assert_false(irq_line_pending(&line));
	assert_int_equal(count(&line), 2);
	irq_line_free(&line);
	irq_line_free(&line);
	irq_router_free(&router);
}

static void test_msi(void **state)
{
	struct irq_router router;
	struct irq_line line = { 0 }, other = { 0 };
	const struct kvm_irq_routing_entry *entry;

	(void)state;
	assert_int_equal(irq_router_init(&router, -1, 0, PINS, (struct irq_msi_pins){ 0 }), 0);
	assert_int_equal(irq_line_msi(&router, 0, &line), 0);
	assert_int_equal(irq_line_msi(&router, 0, &other), 0);
	assert_int_not_equal(line.gsi, other.gsi);
	assert_true(line.gsi >= PINS);

	assert_false(line.bound);
	assert_false(irq_line_pending(&line));
	irq_raise(&line);
	assert_true(irq_line_pending(&line));
	assert_false(irq_line_pending(&other));

	assert_int_equal(irq_line_unmask(&line, 0x1234567800000000 | MSI_ADDR, 0x4021), 0);
	assert_true(line.bound);
	assert_false(irq_line_pending(&line));
	assert_int_equal(router.table->nr, PINS + 1);
	entry = &router.table->entries[PINS];
	assert_int_equal(entry->gsi, line.gsi);
	assert_int_equal(entry->type, KVM_IRQ_ROUTING_MSI);
	assert_int_equal(entry->u.msi.address_lo, MSI_ADDR);
	assert_int_equal(entry->u.msi.address_hi, 0x12345678);
	assert_int_equal(entry->u.msi.data, 0x4021);

	/* Programmed again: the same route. */
	assert_int_equal(irq_line_unmask(&line, MSI_ADDR, 1), 0);
	assert_int_equal(router.table->nr, PINS + 1);
	assert_int_equal(entry->u.msi.address_hi, 0);
	irq_line_mask(&line);
	irq_line_mask(&line);
	assert_false(line.bound);
	irq_line_free(&line);
	irq_line_free(&other);
	irq_router_free(&router);
}

static void test_senders(void **state)
{
	struct irq_line lines[2] = { 0 };
	const struct kvm_irq_routing_entry *entries;
	struct irq_router router;

	(void)state;
	assert_int_equal(irq_router_init(&router, -1, 0, PINS, (struct irq_msi_pins){ 0 }), 0);
	entries = &router.table->entries[PINS];
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(irq_line_msi(&router, 8 * i, &lines[i]), 0);
		assert_int_equal(irq_line_unmask(&lines[i], MSI_ADDR, 1), 0);
		assert_int_equal(entries[i].flags, 0);
	}
	router.senders = true;
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(irq_line_unmask(&lines[i], MSI_ADDR, 2), 0);
		assert_int_equal(entries[i].flags, KVM_MSI_VALID_DEVID);
		assert_int_equal(entries[i].u.msi.devid, 8 * i);
		irq_line_free(&lines[i]);
	}
	irq_router_free(&router);
}

/* A guest may change its mind: an entry is all of one kind. */
static void test_msi_pins(void **state)
{
	const struct kvm_irq_routing_entry *entry;
	struct irq_router router;
	struct irq_line line = { 0 };

	(void)state;
	assert_int_equal(irq_router_init(&router, -1, 7, PINS,
					 (struct irq_msi_pins){ PIN_ADDR, PIN_DATA }), 0);
	router.senders = true;
	assert_int_equal(irq_line_msi(&router, 8, &line), 0);
	entry = &router.table->entries[PINS];
	for (uint32_t pin = 96; pin < 98; pin++) {
		assert_int_equal(irq_line_unmask(&line, PIN_ADDR, PIN_DATA + pin), 0);
		assert_int_equal(entry->gsi, line.gsi);
		assert_int_equal(entry->type, KVM_IRQ_ROUTING_IRQCHIP);
		assert_int_equal(entry->flags, 0);
		assert_int_equal(entry->u.irqchip.irqchip, 7);
		assert_int_equal(entry->u.irqchip.pin, pin);
	}
	assert_int_equal(irq_line_unmask(&line, PIN_ADDR + 4, PIN_DATA), 0);
	assert_int_equal(entry->type, KVM_IRQ_ROUTING_MSI);
	assert_int_equal(entry->u.msi.address_lo, PIN_ADDR + 4);
	assert_int_equal(irq_line_unmask(&line, GIB(4) + PIN_ADDR, PIN_DATA), 0);
	assert_int_equal(entry->type, KVM_IRQ_ROUTING_MSI);
	assert_int_equal(router.table->nr, PINS + 1);
	irq_line_free(&line);
	irq_router_free(&router);
}

static void test_no_route_left(void **state)
{
	struct irq_line *lines = calloc(4096, sizeof(*lines));
	struct irq_router router;
	size_t made = 0;
	int err = 0;

	(void)state;
	assert_int_equal(irq_router_init(&router, -1, 0, PINS, (struct irq_msi_pins){ 0 }), 0);
	/* fds are scarcer than routes: only the numbers stay. */
	while (!err && made < 4096) {
		err = irq_line_msi(&router, 0, &lines[made]);
		if (!err) {
			assert_int_equal(irq_line_unmask(&lines[made], MSI_ADDR, 1), 0);
			irq_line_free(&lines[made++]);
		}
	}
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(router.table->nr, PINS + made);
	irq_router_free(&router);
	free(lines);
}

/* What KVM refuses leaves no trace in the table, all of which goes along with the next route. */
static void test_refused(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const struct kvm_irq_routing_entry *entry;
	struct irq_router router;
	struct irq_line line = { 0 }, fresh = { 0 };

	(void)state;
	assert_int_equal(irq_router_init(&router, -1, 0, PINS, (struct irq_msi_pins){ 0 }), 0);
	assert_int_equal(irq_line_msi(&router, 0, &line), 0);
	assert_int_equal(irq_line_msi(&router, 0, &fresh), 0);
	assert_int_equal(irq_line_unmask(&line, MSI_ADDR, 1), 0);
	irq_line_mask(&line);

	router.vm_fd = null;
	assert_true(irq_line_unmask(&fresh, MSI_ADDR, 1) < 0);
	assert_int_equal(router.table->nr, PINS + 1);
	assert_true(irq_line_unmask(&line, MSI_ADDR, 2) < 0);
	assert_false(line.bound);
	entry = &router.table->entries[PINS];
	assert_int_equal(entry->u.msi.data, 1);
	router.vm_fd = -1;
	assert_int_equal(irq_line_unmask(&line, MSI_ADDR, 2), 0);
	assert_int_equal(entry->u.msi.data, 2);
	irq_line_free(&fresh);
	irq_line_free(&line);
	irq_router_free(&router);
	close(null);
}

/* A VM with interrupt controllers, which one vCPU completes; skips where there is none. */
struct kvm {
	int vm, vcpu;
	struct arch_irqchip *irqchip;
};

static void make_kvm(struct kvm *kvm)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	*kvm = (struct kvm){ .vm = arch_vm_create(fd), .vcpu = -1 };
	close(fd);
	if (kvm->vm < 0 || arch_irqchip_new(kvm->vm, 1, &kvm->irqchip) < 0) {
		print_message("skipped: there is no KVM with interrupt controllers in the kernel\n");
		skip();
	}
	kvm->vcpu = ioctl(kvm->vm, KVM_CREATE_VCPU, 0ul);
	assert_true(kvm->vcpu >= 0);
	assert_int_equal(arch_irqchip_start(kvm->irqchip), 0);
}

/* What was pending is delivered once: neither lost, nor pending again when the line is masked. */
static void test_kvm(void **state)
{
	struct irq_router router;
	struct irq_line line = { 0 };
	struct kvm kvm;

	(void)state;
	make_kvm(&kvm);
	assert_int_equal(irq_router_init(&router, kvm.vm, arch_layout.irq_chip,
					 arch_layout.irq_pins, arch_irqchip_msi_pins(kvm.irqchip)), 0);
	assert_int_equal(irq_line_msi(&router, 0, &line), 0);
	irq_raise(&line);
	assert_true(irq_line_pending(&line));
	assert_int_equal(irq_line_unmask(&line, MSI_ADDR, 0x4021), 0);
	irq_line_mask(&line);
	assert_false(irq_line_pending(&line));

	/* Programmed anew while it is in use. */
	assert_int_equal(irq_line_unmask(&line, MSI_ADDR, 0x4022), 0);
	assert_int_equal(irq_line_unmask(&line, MSI_ADDR, 0x4023), 0);
	irq_raise(&line);
	irq_line_mask(&line);
	assert_false(irq_line_pending(&line));
	irq_raise(&line);
	assert_true(irq_line_pending(&line));

	irq_line_free(&line);
	assert_int_equal(irq_line_pin(&router, &line, 5), 0);
	irq_raise(&line);
	irq_line_free(&line);
	irq_router_free(&router);
	arch_irqchip_free(kvm.irqchip);
	close(kvm.vcpu);
	close(kvm.vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pin),
		cmocka_unit_test(test_msi),
		cmocka_unit_test(test_senders),
		cmocka_unit_test(test_msi_pins),
		cmocka_unit_test(test_no_route_left),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_kvm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
