// SPDX-License-Identifier: Apache-2.0
/*
 * A guest that measures what it is told to. When it is ready it says so by an
 * empty answer, then reads commands from the serial port and answers each:
 *
 *	pci ECAM WINDOW			how devices are found; the answer is their number
 *	mmio BASE STRIDE COUNT PIN
 *	ring packed|split event|flags	how queues are used from now on
 *	WHAT BYTES DEPTH MS poll|interrupt
 *					measures; the answer is requests, ns, doorbells, interrupts
 *	end				ends the run
 *
 * A line of the answer begins with "= ", or with "! " and says what is wrong.
 */
#include "measure.h"

#define WORDS_MAX 6

struct guest {
	struct device devices[DEVICES_MAX];
	unsigned int device_count;
	struct queue queues[QUEUES_MAX];
	uint64_t ring; /* features of the rings */
};

struct measure {
	const char *name;
	measure_fn *fn;
	uint32_t device;
	bool write, sequential;
};

int main(void);

static bool equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static uint64_t number(const char *word)
{
	uint64_t value = 0;

	for (; *word >= '0' && *word <= '9'; word++)
		value = 10 * value + (uint64_t)(*word - '0');
	return value;
}

static unsigned int split(char *line, const char *words[WORDS_MAX])
{
	unsigned int count = 0;

	while (count < WORDS_MAX) {
		while (*line == ' ')
			*line++ = '\0';
		if (!*line)
			break;
		words[count++] = line;
		while (*line && *line != ' ')
			line++;
	}
	return count;
}

static void answer(const uint64_t *numbers, unsigned int count)
{
	serial_text("=");
	for (unsigned int i = 0; i < count; i++) {
		serial_text(" ");
		serial_number(numbers[i]);
	}
	serial_text("\n");
}

static void complain(const char *text)
{
	serial_text("! ");
	serial_text(text);
	serial_text("\n");
}

static struct device *find_device(struct guest *guest, uint32_t id)
{
	for (unsigned int i = 0; i < guest->device_count; i++)
		if (guest->devices[i].id == id)
			return &guest->devices[i];
	return NULL;
}

static const struct measure *find_measure(const char *name)
{
	static const struct measure measures[] = {
		{ "doorbell", measure_doorbell, VIRTIO_ID_BLOCK, false, false },
		{ "interrupt", measure_interrupt, VIRTIO_ID_BLOCK, false, true },
		{ "random-read", measure_blk, VIRTIO_ID_BLOCK, false, false },
		{ "random-write", measure_blk, VIRTIO_ID_BLOCK, true, false },
		{ "sequential-read", measure_blk, VIRTIO_ID_BLOCK, false, true },
		{ "sequential-write", measure_blk, VIRTIO_ID_BLOCK, true, true },
		{ "scsi-random-read", measure_scsi, VIRTIO_ID_SCSI, false, false },
		{ "scsi-random-write", measure_scsi, VIRTIO_ID_SCSI, true, false },
		{ "scsi-sequential-read", measure_scsi, VIRTIO_ID_SCSI, false, true },
		{ "scsi-sequential-write", measure_scsi, VIRTIO_ID_SCSI, true, true },
		{ "entropy", measure_rng, VIRTIO_ID_RNG, false, false },
		{ "send", measure_send, VIRTIO_ID_NET, false, false },
		{ "receive", measure_receive, VIRTIO_ID_NET, false, false },
	};

	for (size_t i = 0; i < sizeof(measures) / sizeof(*measures); i++)
		if (equal(name, measures[i].name))
			return &measures[i];
	return NULL;
}

static void do_measure(struct guest *guest, const char *const words[])
{
	static const char *const errors[] = {
		[MEASURE_REFUSED] = "not possible",
		[MEASURE_FAILED] = "a request failed",
	};
	const struct measure *measure = find_measure(words[0]);
	struct device *dev = measure ? find_device(guest, measure->device) : NULL;
	struct result result;
	enum measure_error error;

	if (!dev) {
		complain(measure ? "no such device" : "no such command");
		return;
	}
	error = measure->fn(&(struct target){ dev, guest->queues, guest->ring },
			    &(struct load){
				    .bytes = (uint32_t)number(words[1]),
				    .depth = (unsigned int)number(words[2]),
				    .ns = number(words[3]) * NS_PER_MS,
				    .polled = equal(words[4], "poll"),
				    .write = measure->write,
				    .sequential = measure->sequential,
			    },
			    &result);
	device_stop(dev);
	if (error)
		complain(errors[error]);
	else
		answer((uint64_t[]){ result.count, result.ns, result.doorbells, result.interrupts }, 4);
}

static void do_ring(struct guest *guest, const char *const words[])
{
	guest->ring = 1ULL << VIRTIO_F_VERSION_1 |
		      (uint64_t)equal(words[1], "packed") << VIRTIO_F_RING_PACKED |
		      (uint64_t)equal(words[2], "event") << VIRTIO_RING_F_EVENT_IDX;
	answer(NULL, 0);
}

static void act(struct guest *guest, const char *const words[], unsigned int count)
{
	if (count == 3 && equal(words[0], "pci")) {
		guest->device_count = pci_scan(number(words[1]), number(words[2]), guest->devices);
		answer((uint64_t[]){ guest->device_count }, 1);
	} else if (count == 5 && equal(words[0], "mmio")) {
		guest->device_count =
			mmio_scan(number(words[1]), number(words[2]), (unsigned int)number(words[3]),
				  (uint32_t)number(words[4]), guest->devices);
		answer((uint64_t[]){ guest->device_count }, 1);
	} else if (count == 3 && equal(words[0], "ring")) {
		do_ring(guest, words);
	} else if (count == 5) {
		do_measure(guest, words);
	} else if (count == 1 && equal(words[0], "end")) {
		cpu_exit();
	} else {
		complain("no such command");
	}
}

int main(void)
{
	static struct guest guest;
	const char *words[WORDS_MAX];
	char line[128];

	if (!cpu_init()) {
		complain("KVM has no clock");
		cpu_exit();
	}
	/* From here on the serial port loses nothing. */
	answer(NULL, 0);
	for (;;) {
		serial_line(line, sizeof(line));
		act(&guest, words, split(line, words));
	}
}
