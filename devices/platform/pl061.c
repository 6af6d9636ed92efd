// SPDX-License-Identifier: Apache-2.0
/*
 * Arm's PL061 (ARM DDI 0190) with a power button on one of its eight lines.
 * The lock guards everything: vCPU threads touch the registers, and another
 * thread presses the button.
 *
 * A driver waits for the contacts to come to rest before it looks at the line,
 * and how long is its own affair. So the button has no timer either: it stays
 * down until the guest has read the line, and the read lets it go.
 *
 * What goes to the interrupt controller is an edge, where a PL061 has a level:
 * one for each time that the level rises, and another when the guest has
 * cleared something and the level stays.
 */
#include <pthread.h>
#include "core/util.h"
#include "devices/platform/platform.h"
#include "devices/platform/primecell.h"

#define PART 0x061
#define BUTTON (1 << PL061_BUTTON)

/* GPIODATA is every word below GPIODIR: bits 9 to 2 of the address are the mask. */
#define GPIODIR 0x400
#define GPIOIS 0x404
#define GPIOIBE 0x408
#define GPIOIEV 0x40c
#define GPIOIE 0x410
#define GPIORIS 0x414
#define GPIOMIS 0x418
#define GPIOIC 0x41c
#define GPIOAFSEL 0x420

struct pl061 {
	const struct irq_line *line;
	pthread_mutex_t lock;
	bool pressed;
	uint8_t data; /* what the guest puts on the lines that it drives */
	uint8_t dir, is, ibe, iev, ie, afsel;
	uint8_t lines;
	uint8_t edges; /* seen since GPIOIC */
	bool raised;   /* the interrupt's level */
};

static uint8_t raw_status(const struct pl061 *gpio)
{
	uint8_t active = (uint8_t)~(gpio->lines ^ gpio->iev);

	return (gpio->edges & ~gpio->is) | (active & gpio->is);
}

/* After every change. */
static void settle(struct pl061 *gpio)
{
	uint8_t inputs = gpio->pressed ? BUTTON : 0;
	uint8_t lines = (gpio->data & gpio->dir) | (inputs & ~gpio->dir);
	uint8_t wanted = gpio->ibe | (uint8_t)~(lines ^ gpio->iev);
	bool raised;

	gpio->edges |= (lines ^ gpio->lines) & wanted & ~gpio->is;
	gpio->lines = lines;
	raised = raw_status(gpio) & gpio->ie;
	if (raised && !gpio->raised)
		irq_raise(gpio->line);
	gpio->raised = raised;
}

static uint8_t read_data(struct pl061 *gpio, uint8_t mask)
{
	uint8_t value = gpio->lines & mask;

	if (value & BUTTON & ~gpio->dir)
		gpio->pressed = false;
	settle(gpio);
	return value;
}

static void write_data(struct pl061 *gpio, uint8_t mask, uint8_t value)
{
	gpio->data = (gpio->data & ~mask) | (value & mask);
}

/* The registers that are what was written to them, else NULL. */
static uint8_t *find(struct pl061 *gpio, uint64_t offset)
{
	switch (offset) {
	case GPIODIR:
		return &gpio->dir;
	case GPIOIS:
		return &gpio->is;
	case GPIOIBE:
		return &gpio->ibe;
	case GPIOIEV:
		return &gpio->iev;
	case GPIOIE:
		return &gpio->ie;
	case GPIOAFSEL:
		return &gpio->afsel;
	}
	return NULL;
}

/* Registers are words of which a byte is used; nothing is in between. */
static uint64_t pl061_read(void *opaque, uint64_t offset, unsigned int len)
{
	struct pl061 *gpio = opaque;
	const uint8_t *reg = find(gpio, offset);
	uint8_t value;

	(void)len;
	if (offset % 4)
		return 0;
	pthread_mutex_lock(&gpio->lock);
	if (offset < GPIODIR)
		value = read_data(gpio, (uint8_t)(offset >> 2));
	else if (reg)
		value = *reg;
	else if (offset == GPIORIS)
		value = raw_status(gpio);
	else if (offset == GPIOMIS)
		value = raw_status(gpio) & gpio->ie;
	else
		value = primecell_id(PART, offset);
	pthread_mutex_unlock(&gpio->lock);
	return value;
}

static void pl061_write(void *opaque, uint64_t offset, unsigned int len, uint64_t data)
{
	struct pl061 *gpio = opaque;
	uint8_t *reg = find(gpio, offset), value = (uint8_t)data;

	(void)len;
	if (offset % 4)
		return;
	pthread_mutex_lock(&gpio->lock);
	if (offset < GPIODIR) {
		write_data(gpio, (uint8_t)(offset >> 2), value);
	} else if (reg) {
		*reg = value;
	} else if (offset == GPIOIC) {
		gpio->edges &= ~value;
		/* So that what is left, or came in between, is told as well. */
		gpio->raised = false;
	}
	settle(gpio);
	pthread_mutex_unlock(&gpio->lock);
}

const struct bus_ops pl061_ops = { .read = pl061_read, .write = pl061_write };

void pl061_press(struct pl061 *gpio)
{
	pthread_mutex_lock(&gpio->lock);
	gpio->pressed = true;
	settle(gpio);
	pthread_mutex_unlock(&gpio->lock);
}

void pl061_reset(struct pl061 *gpio)
{
	pthread_mutex_lock(&gpio->lock);
	gpio->data = gpio->dir = gpio->is = gpio->ibe = gpio->iev = gpio->ie = gpio->afsel = 0;
	settle(gpio);
	gpio->edges = 0;
	pthread_mutex_unlock(&gpio->lock);
}

int pl061_new(const struct irq_line *line, struct pl061 **ret_gpio)
{
	struct pl061 *gpio = calloc(1, sizeof(*gpio));

	if (!gpio)
		return -ENOMEM;
	gpio->line = line;
	pthread_mutex_init(&gpio->lock, NULL);
	*ret_gpio = gpio;
	return 0;
}

void pl061_free(struct pl061 *gpio)
{
	if (!gpio)
		return;
	pthread_mutex_destroy(&gpio->lock);
	free(gpio);
}
