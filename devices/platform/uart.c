// SPDX-License-Identifier: Apache-2.0
/*
 * A 16550A, between vCPU threads, which touch its registers, and a loop, which
 * moves bytes to and from the chardev. The lock guards everything but the
 * chardev, which is the loop's, and is not held across a system call of it:
 * the loop alone advances the transmit ring's tail, so it reads bytes in front
 * of the head without the lock.
 *
 * The transmitter is a ring much larger than the FIFO that the guest knows of.
 * A byte in the ring counts as sent: it will be delivered whatever happens. So
 * LSR says "empty" for as long as a whole FIFO fits, a driver that waits for
 * the transmitter to run empty does not wait for the host's reader, and
 * clearing the transmit FIFO has nothing to clear. The receiver is no larger
 * than a FIFO, since drivers do clear that one: the rest of the input stays
 * where it is safe.
 *
 * The interrupt is an edge, raised when a source becomes pending while it is
 * enabled. Drivers read IIR until nothing is pending, so one edge is enough
 * for whatever becomes pending before they are through.
 */
#include <linux/serial_reg.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include "core/util.h"
#include "devices/platform/platform.h"

#define FIFO_SIZE 16
#define RING_SIZE 4096u
#define DRAIN_MS 2000

#define IER_MASK (UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI)
#define MCR_MASK (UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT1 | UART_MCR_OUT2 | UART_MCR_LOOP)
#define IIR_FIFOS_ON 0xc0
#define DIVISOR_9600 12

struct uart {
	struct chardev *chardev;
	const struct irq_line *line;
	struct loop *loop;
	void (*escape)(void *opaque, enum chardev_escape escape);
	void *opaque;
	struct event wake; /* a vCPU has something for the loop to do */

	pthread_mutex_t lock;
	uint8_t ier, fcr, lcr, mcr, scr;
	uint8_t dll, dlm;
	bool overrun;
	bool thr_empty; /* and the driver was not told since */
	uint8_t raised; /* sources, as bits of IER, that are pending since an edge */
	bool starved;   /* the loop left input where it is for want of room */
	uint8_t rx[FIFO_SIZE];
	unsigned int rx_head, rx_count;
	uint8_t tx[RING_SIZE];
	uint32_t tx_head, tx_tail; /* free-running */
};

static bool has_room(const struct uart *uart)
{
	return RING_SIZE - (uart->tx_head - uart->tx_tail) >= FIFO_SIZE;
}

static uint8_t pending(const struct uart *uart)
{
	uint8_t sources = 0;

	if (uart->overrun)
		sources |= UART_IER_RLSI;
	if (uart->rx_count)
		sources |= UART_IER_RDI;
	if (uart->thr_empty)
		sources |= UART_IER_THRI;
	return sources & uart->ier;
}

static void update_interrupt(struct uart *uart)
{
	uint8_t now = pending(uart);

	if (now & ~uart->raised)
		irq_raise(uart->line);
	uart->raised = now;
}

static void wake_loop(const struct uart *uart)
{
	util_signal(uart->wake.fd);
}

static void rx_push(struct uart *uart, uint8_t byte)
{
	if (uart->rx_count == FIFO_SIZE) {
		uart->overrun = true;
		return;
	}
	uart->rx[(uart->rx_head + uart->rx_count++) % FIFO_SIZE] = byte;
	/* An edge for every arrival: the driver may just be leaving its handler. */
	uart->raised &= (uint8_t)~UART_IER_RDI;
}

static void wake_starved(struct uart *uart)
{
	if (uart->starved)
		wake_loop(uart);
	uart->starved = false;
}

static uint8_t rx_pop(struct uart *uart)
{
	uint8_t byte = uart->rx[uart->rx_head];

	if (!uart->rx_count)
		return 0;
	uart->rx_head = (uart->rx_head + 1) % FIFO_SIZE;
	if (--uart->rx_count == 0)
		wake_starved(uart);
	return byte;
}

static void tx_push(struct uart *uart, uint8_t byte)
{
	uint32_t used = uart->tx_head - uart->tx_tail;

	if (uart->mcr & UART_MCR_LOOP) {
		rx_push(uart, byte);
	} else if (used < RING_SIZE) {
		uart->tx[uart->tx_head++ % RING_SIZE] = byte;
		if (!used)
			wake_loop(uart);
	}
	/* Else the driver sent in spite of LSR, and the byte is lost, as in a real one. */
	uart->thr_empty = has_room(uart);
}

static uint8_t read_iir(struct uart *uart)
{
	uint8_t sources = pending(uart);
	uint8_t iir = UART_IIR_NO_INT;

	if (sources & UART_IER_RLSI)
		iir = UART_IIR_RLSI;
	else if (sources & UART_IER_RDI)
		iir = UART_IIR_RDI;
	else if (sources & UART_IER_THRI)
		iir = UART_IIR_THRI;
	if (iir == UART_IIR_THRI)
		uart->thr_empty = false;
	return iir | ((uart->fcr & UART_FCR_ENABLE_FIFO) ? IIR_FIFOS_ON : 0);
}

static uint8_t read_lsr(struct uart *uart)
{
	uint8_t lsr = 0;

	if (uart->rx_count)
		lsr |= UART_LSR_DR;
	if (uart->overrun)
		lsr |= UART_LSR_OE;
	if (has_room(uart))
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	uart->overrun = false;
	return lsr;
}

/* The other end is always there; in a loop the modem's lines are our own. */
static uint8_t read_msr(const struct uart *uart)
{
	uint8_t mcr = uart->mcr, msr = 0;

	if (!(mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	if (mcr & UART_MCR_RTS)
		msr |= UART_MSR_CTS;
	if (mcr & UART_MCR_DTR)
		msr |= UART_MSR_DSR;
	if (mcr & UART_MCR_OUT1)
		msr |= UART_MSR_RI;
	if (mcr & UART_MCR_OUT2)
		msr |= UART_MSR_DCD;
	return msr;
}

static void write_ier(struct uart *uart, uint8_t value)
{
	uint8_t enabled = value & ~uart->ier;

	uart->ier = value & IER_MASK;
	/* With an idle transmitter that interrupts at once; Linux starts to send that way. */
	if (enabled & UART_IER_THRI)
		uart->thr_empty = has_room(uart);
}

static void write_fcr(struct uart *uart, uint8_t value)
{
	if ((value & UART_FCR_CLEAR_RCVR) || ((value ^ uart->fcr) & UART_FCR_ENABLE_FIFO)) {
		uart->rx_count = 0;
		wake_starved(uart);
	}
	uart->fcr = value;
}

static void write_mcr(struct uart *uart, uint8_t value)
{
	uart->mcr = value & MCR_MASK;
	if (!(uart->mcr & UART_MCR_LOOP))
		wake_starved(uart);
}

static uint64_t uart_read(void *opaque, uint64_t offset, unsigned int len)
{
	struct uart *uart = opaque;
	uint8_t value = 0;
	bool divisor;

	(void)len;
	pthread_mutex_lock(&uart->lock);
	divisor = uart->lcr & UART_LCR_DLAB;
	switch (offset) {
	case UART_RX:
		value = divisor ? uart->dll : rx_pop(uart);
		break;
	case UART_IER:
		value = divisor ? uart->dlm : uart->ier;
		break;
	case UART_IIR:
		value = read_iir(uart);
		break;
	case UART_LCR:
		value = uart->lcr;
		break;
	case UART_MCR:
		value = uart->mcr;
		break;
	case UART_LSR:
		value = read_lsr(uart);
		break;
	case UART_MSR:
		value = read_msr(uart);
		break;
	case UART_SCR:
		value = uart->scr;
		break;
	}
	update_interrupt(uart);
	pthread_mutex_unlock(&uart->lock);
	return value;
}

static void uart_write(void *opaque, uint64_t offset, unsigned int len, uint64_t data)
{
	struct uart *uart = opaque;
	uint8_t value = (uint8_t)data;
	bool divisor;

	(void)len;
	pthread_mutex_lock(&uart->lock);
	divisor = uart->lcr & UART_LCR_DLAB;
	switch (offset) {
	case UART_TX:
		if (divisor)
			uart->dll = value;
		else
			tx_push(uart, value);
		break;
	case UART_IER:
		if (divisor)
			uart->dlm = value;
		else
			write_ier(uart, value);
		break;
	case UART_FCR:
		write_fcr(uart, value);
		break;
	case UART_LCR:
		uart->lcr = value;
		break;
	case UART_MCR:
		write_mcr(uart, value);
		break;
	case UART_SCR:
		uart->scr = value;
		break;
	}
	update_interrupt(uart);
	pthread_mutex_unlock(&uart->lock);
}

const struct bus_ops uart_ops = { .read = uart_read, .write = uart_write };

/* The transmit ring's oldest bytes, as many as lie in one piece. */
static size_t tx_peek(struct uart *uart, const uint8_t **ret_bytes)
{
	uint32_t at, count;

	pthread_mutex_lock(&uart->lock);
	at = uart->tx_tail % RING_SIZE;
	count = uart->tx_head - uart->tx_tail;
	pthread_mutex_unlock(&uart->lock);
	*ret_bytes = uart->tx + at;
	return util_min(count, RING_SIZE - at);
}

static void tx_advance(struct uart *uart, size_t len)
{
	bool had_room;

	pthread_mutex_lock(&uart->lock);
	had_room = has_room(uart);
	uart->tx_tail += (uint32_t)len;
	if (!had_room && has_room(uart))
		uart->thr_empty = true;
	update_interrupt(uart);
	pthread_mutex_unlock(&uart->lock);
}

/* Returns false when something is left: the reader is slow. */
static bool transmit(struct uart *uart)
{
	const uint8_t *bytes;
	size_t len;
	ssize_t n;

	while ((len = tx_peek(uart, &bytes))) {
		n = chardev_write(uart->chardev, bytes, len);
		if (n == 0)
			return false;
		/* What cannot be delivered at all is lost, and must not stop the guest. */
		tx_advance(uart, n < 0 ? len : (size_t)n);
	}
	return true;
}

/* How much input there is room for; chardev_read() needs two bytes. */
static size_t rx_room(struct uart *uart)
{
	size_t room = 0;

	pthread_mutex_lock(&uart->lock);
	if (!(uart->mcr & UART_MCR_LOOP))
		room = FIFO_SIZE - uart->rx_count;
	uart->starved = room < 2;
	pthread_mutex_unlock(&uart->lock);
	return room < 2 ? 0 : room;
}

static void receive(struct uart *uart)
{
	enum chardev_escape escape;
	uint8_t bytes[FIFO_SIZE];
	size_t room;
	ssize_t n;

	while ((room = rx_room(uart))) {
		n = chardev_read(uart->chardev, bytes, room, &escape);
		if (escape)
			uart->escape(uart->opaque, escape);
		if (n <= 0)
			return;
		pthread_mutex_lock(&uart->lock);
		for (ssize_t i = 0; i < n; i++)
			rx_push(uart, bytes[i]);
		update_interrupt(uart);
		pthread_mutex_unlock(&uart->lock);
	}
}

static void move_bytes(void *opaque)
{
	struct uart *uart = opaque;

	transmit(uart);
	receive(uart);
}

static void on_wake(struct event *event, uint32_t revents)
{
	(void)revents;
	move_bytes(container_of(event, struct uart, wake));
}

void uart_reset(struct uart *uart)
{
	pthread_mutex_lock(&uart->lock);
	uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->scr = 0;
	uart->dll = DIVISOR_9600;
	uart->dlm = 0;
	uart->overrun = uart->thr_empty = false;
	uart->raised = 0;
	uart->rx_count = 0;
	wake_starved(uart);
	pthread_mutex_unlock(&uart->lock);
}

static void uart_freep(struct uart **uart)
{
	uart_free(*uart);
}

int uart_new(struct chardev *chardev, const struct irq_line *line, struct loop *loop,
	     void (*escape)(void *opaque, enum chardev_escape escape), void *opaque,
	     struct uart **ret_uart)
{
	_cleanup_(uart_freep) struct uart *uart = calloc(1, sizeof(*uart));
	int rc;

	if (!uart)
		return -ENOMEM;
	uart->chardev = chardev;
	uart->line = line;
	uart->loop = loop;
	uart->escape = escape;
	uart->opaque = opaque;
	pthread_mutex_init(&uart->lock, NULL);
	uart->wake = (struct event){
		.fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC),
		.fn = on_wake,
	};
	if (uart->wake.fd < 0)
		return -errno;
	uart_reset(uart);
	/* Each write is an edge, so nobody has to read it; the count of 1 makes the first turn. */
	rc = loop_add(loop, &uart->wake, EPOLLIN | EPOLLET);
	if (rc < 0)
		return rc;
	rc = chardev_attach(chardev, loop, move_bytes, uart);
	if (rc < 0)
		return rc;
	*ret_uart = util_steal_ptr(&uart);
	return 0;
}

size_t uart_fds(const struct uart *uart, int fds[UART_FDS_MAX])
{
	size_t count = chardev_fds(uart->chardev, fds);

	fds[count++] = uart->wake.fd;
	fds[count++] = uart->line->fd;
	return count;
}

void uart_drain(struct uart *uart)
{
	uint64_t now = util_now_ns(), end = now + DRAIN_MS * NS_PER_MS;

	while (!transmit(uart) && (now = util_now_ns()) < end)
		chardev_wait(uart->chardev, (int)((end - now) / NS_PER_MS) + 1);
}

void uart_free(struct uart *uart)
{
	if (!uart)
		return;
	chardev_detach(uart->chardev);
	if (uart->wake.fd >= 0)
		loop_del(uart->loop, &uart->wake);
	util_closep(&uart->wake.fd);
	pthread_mutex_destroy(&uart->lock);
	free(uart);
}
