/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPU threads. All are parked at first; vcpus_run() lets them go and
 * vcpus_park() stops them again, at an instruction boundary, so that the main
 * thread can look at or reset them.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include "core/bus.h"
#include "seccomp/filter.h"

struct kvm_run;
struct vcpus;

/* Why the guest does not go on, as KVM tells a vCPU. */
enum vcpu_stop {
	VCPU_POWER_OFF,
	VCPU_RESET, /* code: the flags of KVM_SYSTEM_EVENT_RESET */
	VCPU_PANIC,
	VCPU_TRIPLE_FAULT,
	VCPU_INTERNAL_ERROR, /* KVM's or ours; text says what */
};

struct vcpu {
	struct vcpus *all;
	unsigned int index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	unsigned int faults; /* in a row, for which nothing was found to mend */
	/* Guarded by all->lock: */
	bool parked;
	int start_err; /* of confining the thread; set before it parks for the first time */
};

struct vcpus {
	struct vcpu *vcpu;
	unsigned int count;
	size_t run_len; /* of the mapping behind vcpu.run */
	const struct bus *mmio, *ports;
	/* Called on a vCPU thread, which parks afterwards. text only for VCPU_INTERNAL_ERROR. */
	void (*stopped)(void *opaque, enum vcpu_stop why, int code, const char *text);
	void *opaque;
	/* On a vCPU thread: KVM did not get a page of the guest's memory; whether to try again. */
	bool (*mend_memory)(void *machine);
	void *machine;
	bool confine;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	_Atomic bool park; /* wanted; unset only under lock */
	bool end;
};

/* What each of the threads is confined to. */
extern const struct sandbox vcpu_sandbox;

/*
 * Creates count vCPUs of the VM. mmio and ports must outlive them. -errno;
 * vcpus_free() afterwards in any case.
 */
int vcpus_init(struct vcpus *vcpus, int kvm_fd, int vm_fd, unsigned int count);
/* Starts the threads, parked and confined. -errno when one cannot be; then none may run. */
int vcpus_start(struct vcpus *vcpus);
void vcpus_run(struct vcpus *vcpus);
/* On the main thread: returns when all are parked. */
void vcpus_park(struct vcpus *vcpus);
/* On a vCPU thread, from a device's register: this vCPU goes no further. */
void vcpus_request_park(struct vcpus *vcpus);
/* Ends the threads and joins them. */
void vcpus_stop(struct vcpus *vcpus);
/* Accepts a zeroed or half-built object. */
void vcpus_free(struct vcpus *vcpus);

#endif
