/* SPDX-License-Identifier: Apache-2.0 */
/* Memory slots, and the shared memory of devices in the guest's address space: above RAM, and above 4 GiB. */
#ifndef VMM_SHM_H
#define VMM_SHM_H

#include "devices/virtio/virtio.h"
#include "vmm/machine.h"

/* Shows [hva, hva + len) at gpa. -errno of KVM. */
int shm_plug(struct machine *machine, uint64_t gpa, uint64_t len, const void *hva);
/* Gives a region that there is its place, once, and shows it. */
int shm_place(struct machine *machine, struct virtio_shm *shm);
/* Lets devices use buffers there; nobody may look at mem meanwhile. Again it does nothing. -ENOMEM. */
int shm_add_windows(struct machine *machine);
/* On a vCPU thread: KVM got no page of the machine's memory. Whether one was put there. */
bool shm_mend(void *machine);

#endif
