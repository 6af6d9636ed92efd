// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "core/util.h"
#include "devices/platform/platform.h"

#define BASE 0x3f8
#define FIFO 16
#define RING 4096

/* A serial port whose other end is the test, by way of a UNIX socket. */
struct rig {
	struct bus bus;
	struct loop loop;
	struct chardev chardev;
	struct irq_line line;
	struct uart *uart;
	int peer;
	char dir[32], path[64];
};

static void on_escape(void *opaque, enum chardev_escape escape)
{
	(void)opaque;
	(void)escape;
}

static void turn(struct rig *rig)
{
	while (loop_turn(&rig->loop, 0) > 0)
		;
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

static int set_up(void **state)
{
	struct rig *rig = test_calloc(1, sizeof(*rig));
	const struct chardev_conf conf = { .socket = rig->path };
	int rc;

	strcpy(rig->dir, "/tmp/uart.XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	snprintf(rig->path, sizeof(rig->path), "%s/socket", rig->dir);
	assert_int_equal(loop_init(&rig->loop), 0);
	assert_int_equal(chardev_open(&rig->chardev, &conf), 0);
	rig->line.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	rc = uart_new(&rig->chardev, &rig->line, &rig->loop, on_escape, rig, &rig->uart);
	assert_int_equal(rc, 0);
	bus_init(&rig->bus, -1, true);
	assert_int_equal(bus_add(&rig->bus, BASE, UART_LEN, &uart_ops, rig->uart), 0);
	rig->peer = connect_to(rig->path);
	turn(rig);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	uart_free(rig->uart);
	bus_free(&rig->bus);
	chardev_close(&rig->chardev);
	loop_free(&rig->loop);
	close(rig->line.fd);
	close(rig->peer);
	unlink(rig->path);
	rmdir(rig->dir);
	test_free(rig);
	return 0;
}

static uint8_t in(struct rig *rig, unsigned int reg)
{
	uint8_t value;

	assert_true(bus_read(&rig->bus, BASE + reg, &value, 1));
	return value;
}

static void out(struct rig *rig, unsigned int reg, uint8_t value)
{
	assert_true(bus_write(&rig->bus, BASE + reg, &value, 1));
}

static void out_string(struct rig *rig, const char *text)
{
	while (*text)
		out(rig, UART_TX, (uint8_t)*text++);
}

/* Whether an interrupt was raised since the last look. */
static bool interrupted(struct rig *rig)
{
	eventfd_t count;

	return eventfd_read(rig->line.fd, &count) == 0;
}

static void type(struct rig *rig, const char *text)
{
	assert_int_equal(write(rig->peer, text, strlen(text)), strlen(text));
	turn(rig);
}

static void assert_peer_reads(struct rig *rig, const char *want)
{
	char buffer[128];
	ssize_t n;

	turn(rig);
	n = read(rig->peer, buffer, sizeof(buffer));
	assert_int_equal(n, strlen(want));
	assert_memory_equal(buffer, want, strlen(want));
}

static void test_scratch_and_divisor(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_SCR, 0xa5);
	assert_int_equal(in(rig, UART_SCR), 0xa5);

	out(rig, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(rig, UART_DLL, 0x34);
	out(rig, UART_DLM, 0x12);
	assert_int_equal(in(rig, UART_DLL), 0x34);
	assert_int_equal(in(rig, UART_DLM), 0x12);
	out(rig, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(in(rig, UART_LCR), UART_LCR_WLEN8);
	assert_int_equal(in(rig, UART_IER), 0);
	assert_int_equal(in(rig, UART_RX), 0);

	/* Nothing of it went out. */
	turn(rig);
	assert_int_equal(read(rig->peer, &(char){ 0 }, 1), -1);
	assert_int_equal(in(rig, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(in(rig, UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
}

/* The first part of what Linux' 8250 driver does to find out what it has (autoconfig). */
static void probe_presence(struct rig *rig)
{
	uint8_t saved = in(rig, UART_IER);

	out(rig, UART_IER, 0);
	assert_int_equal(in(rig, UART_IER) & 0x0f, 0);
	out(rig, UART_IER, 0x0f);
	assert_int_equal(in(rig, UART_IER) & 0x0f, 0x0f);
	out(rig, UART_IER, saved);

	saved = in(rig, UART_MCR);
	out(rig, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(rig, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(rig, UART_MCR, saved);

	out(rig, UART_LCR, UART_LCR_CONF_MODE_B);
	out(rig, UART_EFR, 0);
	out(rig, UART_LCR, 0);
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(in(rig, UART_IIR) >> 6, 3);
}

/* The second: it must not take this for one of the 16550A's many relatives. */
static void probe_relatives(struct rig *rig)
{
	uint8_t mcr, excr;

	/* Startech and Exar: an enhanced feature register that reads as 0. */
	out(rig, UART_LCR, UART_LCR_CONF_MODE_A);
	assert_int_not_equal(in(rig, UART_EFR), 0);
	out(rig, UART_LCR, UART_LCR_CONF_MODE_B);
	assert_int_not_equal(in(rig, UART_EFR), 0);

	/* National: MCR shows up in another bank. */
	out(rig, UART_LCR, 0);
	mcr = in(rig, UART_MCR);
	out(rig, UART_LCR, 0xe0);
	excr = in(rig, 0x02);
	assert_false((excr ^ mcr) & UART_MCR_LOOP);
	out(rig, UART_LCR, 0);
	out(rig, UART_MCR, mcr ^ UART_MCR_LOOP);
	out(rig, UART_LCR, 0xe0);
	excr = in(rig, 0x02);
	out(rig, UART_LCR, 0);
	out(rig, UART_MCR, mcr);
	assert_false((excr ^ mcr) & UART_MCR_LOOP);

	/* 16750: 64 bytes of FIFO, unlocked by DLAB. */
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(in(rig, UART_IIR) >> 5, 6);
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(rig, UART_LCR, UART_LCR_CONF_MODE_A);
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(in(rig, UART_IIR) >> 5, 6);
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(rig, UART_LCR, 0);

	/* XScale: a unit enable bit in IER. */
	out(rig, UART_IER, UART_IER_UUE);
	assert_int_equal(in(rig, UART_IER) & UART_IER_UUE, 0);
	out(rig, UART_IER, 0);
}

/* The third: how much a loop takes before bytes are lost (size_fifo). */
static unsigned int measure_fifo(struct rig *rig)
{
	uint8_t mcr = in(rig, UART_MCR);
	unsigned int count;

	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	out(rig, UART_MCR, UART_MCR_LOOP);
	for (unsigned int i = 0; i < 256; i++)
		out(rig, UART_TX, (uint8_t)i);
	for (count = 0; in(rig, UART_LSR) & UART_LSR_DR && count < 256; count++)
		assert_int_equal(in(rig, UART_RX), count);
	out(rig, UART_MCR, mcr);
	return count;
}

static void test_linux_finds_a_16550a(void **state)
{
	struct rig *rig = *state;

	probe_presence(rig);
	probe_relatives(rig);
	assert_int_equal(measure_fifo(rig), FIFO);
	turn(rig);
	assert_int_equal(read(rig->peer, &(char){ 0 }, 1), -1);
}

/* Its start-up then looks for two bugs in how the transmitter interrupts. */
static void test_linux_finds_no_bugs(void **state)
{
	struct rig *rig = *state;
	uint8_t lsr;

	out(rig, UART_IER, UART_IER_THRI);
	assert_true(interrupted(rig));
	assert_int_equal(in(rig, UART_IIR) & UART_IIR_NO_INT, 0);
	out(rig, UART_IER, 0);
	out(rig, UART_IER, UART_IER_THRI);
	assert_true(interrupted(rig));
	assert_int_equal(in(rig, UART_IIR) & UART_IIR_NO_INT, 0);
	out(rig, UART_IER, 0);

	out(rig, UART_IER, UART_IER_THRI);
	lsr = in(rig, UART_LSR);
	assert_true(lsr & UART_LSR_TEMT);
	assert_int_equal(in(rig, UART_IIR) & UART_IIR_NO_INT, 0);
	out(rig, UART_IER, 0);
	assert_int_equal(in(rig, UART_IIR) & UART_IIR_NO_INT, UART_IIR_NO_INT);
}

static void test_output(void **state)
{
	struct rig *rig = *state;

	out_string(rig, "hello, host");
	assert_peer_reads(rig, "hello, host");

	/* What was accepted is delivered, even if the driver clears its FIFOs. */
	out_string(rig, "kept");
	out(rig, UART_FCR, UART_FCR_CLEAR_XMIT | UART_FCR_ENABLE_FIFO);
	assert_peer_reads(rig, "kept");
}

static void test_input(void **state)
{
	struct rig *rig = *state;

	/* Polled. */
	type(rig, "ab");
	assert_false(interrupted(rig));
	assert_true(in(rig, UART_LSR) & UART_LSR_DR);
	assert_int_equal(in(rig, UART_RX), 'a');
	assert_int_equal(in(rig, UART_RX), 'b');
	assert_false(in(rig, UART_LSR) & UART_LSR_DR);

	/* By interrupt: one for each arrival, and one when input waits as it is enabled. */
	out(rig, UART_IER, UART_IER_RDI);
	assert_false(interrupted(rig));
	type(rig, "c");
	assert_true(interrupted(rig));
	assert_int_equal(in(rig, UART_IIR), UART_IIR_RDI);
	type(rig, "d");
	assert_true(interrupted(rig));
	assert_int_equal(in(rig, UART_RX), 'c');
	assert_int_equal(in(rig, UART_IIR), UART_IIR_RDI);
	assert_int_equal(in(rig, UART_RX), 'd');
	assert_int_equal(in(rig, UART_IIR), UART_IIR_NO_INT);
	assert_false(interrupted(rig));
	out(rig, UART_IER, 0);
	type(rig, "e");
	out(rig, UART_IER, UART_IER_RDI);
	assert_true(interrupted(rig));
}

/* Input beyond the FIFO stays with the host, and follows as the guest reads. */
static void test_much_input(void **state)
{
	struct rig *rig = *state;
	char text[1000], seen[sizeof(text)];
	size_t count = 0;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(' ' + i % 90);
	assert_int_equal(write(rig->peer, text, sizeof(text)), sizeof(text));
	turn(rig);
	while (in(rig, UART_LSR) & UART_LSR_DR) {
		assert_true(count < sizeof(seen));
		seen[count++] = (char)in(rig, UART_RX);
		turn(rig);
	}
	assert_int_equal(count, sizeof(text));
	assert_memory_equal(seen, text, sizeof(text));

	/* Clearing the FIFO loses what was in it and no more. */
	assert_int_equal(write(rig->peer, text, 100), 100);
	turn(rig);
	out(rig, UART_FCR, UART_FCR_CLEAR_RCVR);
	turn(rig);
	assert_int_equal(in(rig, UART_RX), text[FIFO]);
}

static void test_priorities(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_IER, UART_IER_RDI | UART_IER_RLSI | UART_IER_THRI);
	out(rig, UART_MCR, UART_MCR_LOOP);
	for (int i = 0; i <= FIFO; i++)
		out(rig, UART_TX, 'x');
	assert_int_equal(in(rig, UART_IIR), UART_IIR_RLSI);
	assert_true(in(rig, UART_LSR) & UART_LSR_OE);
	assert_false(in(rig, UART_LSR) & UART_LSR_OE);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_RDI);
	for (int i = 0; i < FIFO; i++)
		assert_int_equal(in(rig, UART_RX), 'x');
	/* Reading IIR takes back the transmitter's interrupt and no other. */
	assert_int_equal(in(rig, UART_IIR), UART_IIR_THRI);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_NO_INT);
}

/* A Linux guest's interrupt handler: writes 16 bytes for each THRI, then disables it. */
static void test_output_by_interrupt(void **state)
{
	struct rig *rig = *state;
	unsigned int left = 64;

	out(rig, UART_IER, UART_IER_THRI);
	while (left) {
		assert_true(interrupted(rig));
		assert_int_equal(in(rig, UART_IIR), UART_IIR_THRI);
		for (int i = 0; i < FIFO; i++, left--)
			out(rig, UART_TX, 'y');
	}
	out(rig, UART_IER, 0);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_NO_INT);
	assert_peer_reads(rig, "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy");
}

/* Sends while LSR allows it; the loop runs in between when turning. Returns how many. */
static size_t send_while_possible(struct rig *rig, bool turning, uint8_t *sequence, size_t max)
{
	size_t sent = 0;

	while (in(rig, UART_LSR) & UART_LSR_THRE && sent < max) {
		for (int i = 0; i < FIFO; i++)
			out(rig, UART_TX, (*sequence)++);
		sent += FIFO;
		if (turning)
			turn(rig);
	}
	return sent;
}

static void test_slow_reader(void **state)
{
	struct rig *rig = *state;
	uint8_t sequence = 0, expected = 0, buffer[4096];
	size_t sent, got = 0;
	ssize_t n;

	sent = send_while_possible(rig, true, &sequence, MIB(16));
	assert_true(sent < MIB(16));
	assert_true(sent > RING);
	assert_int_equal(in(rig, UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT), 0);
	out(rig, UART_IER, UART_IER_THRI);
	assert_int_equal(in(rig, UART_IIR), UART_IIR_NO_INT);
	assert_false(interrupted(rig));

	/* The reader wakes up: an interrupt says that there is room, and nothing is lost. */
	while (got < sent) {
		turn(rig);
		n = read(rig->peer, buffer, sizeof(buffer));
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buffer[i], expected++);
		got += (size_t)n;
	}
	assert_true(interrupted(rig));
	assert_int_equal(in(rig, UART_IIR), UART_IIR_THRI);
	assert_true(in(rig, UART_LSR) & UART_LSR_TEMT);
}

/* A driver that ignores LSR loses its own bytes; those before them are safe. */
static void test_full_ring(void **state)
{
	struct rig *rig = *state;
	uint8_t buffer[2 * RING];

	for (unsigned int i = 0; i < RING + 100; i++)
		out(rig, UART_TX, (uint8_t)(i / FIFO));
	turn(rig);
	assert_int_equal(read(rig->peer, buffer, sizeof(buffer)), RING);
	for (unsigned int i = 0; i < RING; i++)
		assert_int_equal(buffer[i], (uint8_t)(i / FIFO));
}

static void test_drain(void **state)
{
	struct rig *rig = *state;
	uint8_t sequence = 0, buffer[RING];
	size_t sent = send_while_possible(rig, false, &sequence, RING / 2);

	uart_drain(rig->uart);
	assert_int_equal(read(rig->peer, buffer, sizeof(buffer)), sent);
}

static void test_reset(void **state)
{
	struct rig *rig = *state;

	out(rig, UART_LCR, UART_LCR_DLAB);
	out(rig, UART_DLM, 3);
	out(rig, UART_LCR, UART_LCR_WLEN8);
	out(rig, UART_MCR, UART_MCR_LOOP);
	out(rig, UART_FCR, UART_FCR_ENABLE_FIFO);
	out(rig, UART_IER, UART_IER_THRI);
	out(rig, UART_SCR, 1);
	out(rig, UART_TX, 'x');
	out(rig, UART_MCR, 0);
	out_string(rig, "last words");
	uart_reset(rig->uart);
	for (unsigned int reg = UART_RX; reg <= UART_MCR; reg++)
		assert_int_equal(in(rig, reg), reg == UART_IIR ? UART_IIR_NO_INT : 0);
	assert_int_equal(in(rig, UART_SCR), 0);
	assert_peer_reads(rig, "last words");
}

static void test_fds(void **state)
{
	struct rig *rig = *state;
	int fds[UART_FDS_MAX];
	size_t count = uart_fds(rig->uart, fds);

	assert_in_range(count, 3, UART_FDS_MAX);
	while (count > 0)
		assert_true(fcntl(fds[--count], F_GETFD) >= 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_scratch_and_divisor, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_linux_finds_a_16550a, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_linux_finds_no_bugs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_output, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_input, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_much_input, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_priorities, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_output_by_interrupt, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_reader, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_full_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_drain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fds, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
