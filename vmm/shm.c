// SPDX-License-Identifier: Apache-2.0
#include "vmm/shm.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include "devices/virtio/transport.h"

int shm_plug(struct machine *machine, uint64_t gpa, uint64_t len, const void *hva)
{
	const struct kvm_userspace_memory_region slot = {
		.slot = machine->slot_count++,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)hva,
	};

	return ioctl(machine->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0 ? -errno : 0;
}

int shm_place(struct machine *machine, struct virtio_shm *shm)
{
	const struct mem_region *ram = &machine->mem.regions[machine->mem.count - 1];
	struct mem_range *high = &machine->high;
	const uint64_t len = shm->window.len;

	if (!len)
		return 0;
	if (!high->len)
		high->gpa = util_max(GIB(4), ram->gpa + ram->len);
	/* A multiple of its size, as a BAR wants. */
	shm->gpa = util_align_up(high->gpa + high->len, len);
	high->len = shm->gpa + len - high->gpa;
	return shm_plug(machine, shm->gpa, len, shm->window.hva);
}

int shm_add_windows(struct machine *machine)
{
	int err = 0;

	if (machine->mem.windows)
		return 0;
	for (size_t i = 0; !err && i < machine->device_count; i++) {
		const struct virtio_shm *shm = &machine->devices[i].dev->shm;

		if (shm->window.hva)
			err = mem_add_window(&machine->mem, shm->gpa, shm->window.len,
					     shm->window.hva);
	}
	return err;
}

bool shm_mend(void *opaque)
{
	const struct machine *machine = opaque;
	bool mended = false;

	for (size_t i = 0; i < machine->device_count; i++)
		mended |= virtio_dev_mend(machine->devices[i].dev);
	return mended;
}
