// SPDX-License-Identifier: Apache-2.0
/*
 * Stopping a vCPU takes two things, since a signal alone can arrive between
 * the last look at the flag and KVM_RUN: immediate_exit makes the next KVM_RUN
 * return at once, and the signal interrupts one that is under way.
 */
#include "vmm/vcpu.h"

#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "arch/arch.h"
#include "core/util.h"
#include "seccomp/filter.h"

#define STACK_LEN KIB(128)
#define FAULTS_MAX 16

/* Besides the base set: run the guest, and route the MSIs that it programs. */
const struct sandbox vcpu_sandbox = SANDBOX(
	SC_ARG(ioctl, 1, KVM_RUN),
	SC_ARG(ioctl, 1, KVM_SET_GSI_ROUTING),
	SC_ARG(ioctl, 1, KVM_IRQFD),
	/* arch_vcpu_dump(). */
	SC_ARG(ioctl, 1, KVM_GET_REGS),
	SC_ARG(ioctl, 1, KVM_GET_SREGS),
	SC_ARG(ioctl, 1, KVM_GET_ONE_REG));

static void on_kick(int signal)
{
	(void)signal;
}

static int kick_signal(void)
{
	return SIGRTMIN;
}

int vcpus_init(struct vcpus *vcpus, int kvm_fd, int vm_fd, unsigned int count)
{
	int len = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), err;

	if (len < 0)
		return -errno;
	pthread_mutex_init(&vcpus->lock, NULL);
	pthread_cond_init(&vcpus->changed, NULL);
	vcpus->park = true;
	vcpus->run_len = (size_t)len;
	vcpus->vcpu = calloc(count, sizeof(*vcpus->vcpu));
	if (!vcpus->vcpu)
		return -ENOMEM;
	for (unsigned int i = 0; i < count; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];
		void *run;

		*vcpu = (struct vcpu){ .all = vcpus, .index = i };
		vcpu->fd = ioctl(vm_fd, KVM_CREATE_VCPU, (unsigned long)i);
		if (vcpu->fd < 0)
			return -errno;
		vcpus->count++;
		run = mmap(NULL, vcpus->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
		if (run == MAP_FAILED)
			return -errno;
		vcpu->run = run;
		err = arch_vcpu_init(kvm_fd, vm_fd, vcpu->fd, i, count);
		if (err)
			return err;
	}
	return 0;
}

static void stopped(struct vcpu *vcpu, enum vcpu_stop why, int code, const char *text)
{
	vcpus_request_park(vcpu->all);
	vcpu->all->stopped(vcpu->all->opaque, why, code, text);
}

static void internal_error(struct vcpu *vcpu, const char *what, unsigned long long detail)
{
	char registers[256], text[400];

	arch_vcpu_dump(vcpu->fd, registers, sizeof(registers));
	snprintf(text, sizeof(text), "vCPU %u: %s (%#llx) at %s", vcpu->index, what, detail,
		 registers);
	stopped(vcpu, VCPU_INTERNAL_ERROR, 0, text);
}

/* String instructions give several accesses of one port at once. */
static void port_access(const struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			(void)bus_write(vcpu->all->ports, run->io.port, data, run->io.size);
		else
			(void)bus_read(vcpu->all->ports, run->io.port, data, run->io.size);
	}
}

static void memory_access(const struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->mmio.is_write)
		(void)bus_write(vcpu->all->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		(void)bus_read(vcpu->all->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

/* What a guest asks of its firmware, when KVM is that. */
static void system_event(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	switch (run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		stopped(vcpu, VCPU_POWER_OFF, 0, NULL);
		break;
	case KVM_SYSTEM_EVENT_RESET:
		stopped(vcpu, VCPU_RESET, (int)run->system_event.flags, NULL);
		break;
	case KVM_SYSTEM_EVENT_CRASH:
		stopped(vcpu, VCPU_PANIC, 0, NULL);
		break;
	default:
		internal_error(vcpu, "unexpected event", run->system_event.type);
		break;
	}
}

static void failed(struct vcpu *vcpu, int err)
{
	const char *what = strerror(err);

	if (err == EINTR || err == EAGAIN)
		return;
	if (err == EFAULT) {
		/* Another vCPU's fault may have had it mended. */
		if (vcpu->all->mend_memory(vcpu->all->machine) || vcpu->faults++ < FAULTS_MAX)
			return;
		what = "the host has no page for its memory, or for a file that it maps (is a disk full?)";
	}
	internal_error(vcpu, what, (unsigned long long)err);
}

static void run_once(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
		failed(vcpu, errno);
		return;
	}
	vcpu->faults = 0;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		port_access(vcpu);
		break;
	case KVM_EXIT_MMIO:
		memory_access(vcpu);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		system_event(vcpu);
		break;
	case KVM_EXIT_SHUTDOWN:
		stopped(vcpu, VCPU_TRIPLE_FAULT, 0, NULL);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		internal_error(vcpu, "the processor refused to run it",
			       run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		internal_error(vcpu,
			       run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ?
				       "KVM cannot emulate the instruction (see microvm check)" :
				       "KVM internal error",
			       run->internal.suberror);
		break;
	case KVM_EXIT_INTR:
		break;
	default:
		internal_error(vcpu, "unexpected exit", run->exit_reason);
		break;
	}
}

/*
 * KVM finishes an access that it left to us only when it runs again: it has to,
 * before anybody may set registers.
 */
static void finish_access(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
	(void)ioctl(vcpu->fd, KVM_RUN, 0);
}

/* Waits while parking is wanted. Returns false at the end. */
static bool wait_turn(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;
	bool go_on;

	pthread_mutex_lock(&all->lock);
	vcpu->parked = true;
	pthread_cond_broadcast(&all->changed);
	while (all->park && !all->end)
		pthread_cond_wait(&all->changed, &all->lock);
	vcpu->parked = false;
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
	go_on = !all->end;
	pthread_mutex_unlock(&all->lock);
	return go_on;
}

static void *thread_main(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	filter_name_thread(name);
	if (vcpu->all->confine)
		vcpu->start_err = filter_enter(&vcpu_sandbox);
	while (wait_turn(vcpu)) {
		while (!vcpu->all->park)
			run_once(vcpu);
		finish_access(vcpu);
	}
	return NULL;
}

static bool all_parked(const struct vcpus *vcpus)
{
	for (unsigned int i = 0; i < vcpus->count; i++)
		if (vcpus->vcpu[i].started && !vcpus->vcpu[i].parked)
			return false;
	return true;
}

/* With lock held. */
static void wait_parked(struct vcpus *vcpus)
{
	while (!all_parked(vcpus))
		pthread_cond_wait(&vcpus->changed, &vcpus->lock);
}

int vcpus_start(struct vcpus *vcpus)
{
	const int own[] = { kick_signal(), SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct sigaction action = { .sa_handler = on_kick };
	pthread_attr_t attr;
	sigset_t kick, old;
	int err = 0;

	sigaction(kick_signal(), &action, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_LEN);
	/* Everything but the kick and what a thread does to itself is for the main thread. */
	sigfillset(&kick);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(&kick, own[i]);
	pthread_sigmask(SIG_SETMASK, &kick, &old);
	for (unsigned int i = 0; !err && i < vcpus->count; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];

		err = -pthread_create(&vcpu->thread, &attr, thread_main, vcpu);
		vcpu->started = !err;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	pthread_mutex_lock(&vcpus->lock);
	wait_parked(vcpus);
	pthread_mutex_unlock(&vcpus->lock);
	for (unsigned int i = 0; !err && i < vcpus->count; i++)
		err = vcpus->vcpu[i].start_err;
	return err;
}

void vcpus_run(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	vcpus->park = false;
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_request_park(struct vcpus *vcpus)
{
	vcpus->park = true;
}

static void interrupt(struct vcpus *vcpus)
{
	for (unsigned int i = 0; i < vcpus->count; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];

		if (!vcpu->started || vcpu->parked)
			continue;
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
		pthread_kill(vcpu->thread, kick_signal());
	}
}

void vcpus_park(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	vcpus->park = true;
	interrupt(vcpus);
	wait_parked(vcpus);
	pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_stop(struct vcpus *vcpus)
{
	if (!vcpus->vcpu)
		return;
	pthread_mutex_lock(&vcpus->lock);
	vcpus->park = vcpus->end = true;
	interrupt(vcpus);
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
	for (unsigned int i = 0; i < vcpus->count; i++) {
		if (vcpus->vcpu[i].started)
			pthread_join(vcpus->vcpu[i].thread, NULL);
		vcpus->vcpu[i].started = false;
	}
}

void vcpus_free(struct vcpus *vcpus)
{
	vcpus_stop(vcpus);
	for (unsigned int i = 0; i < vcpus->count; i++) {
		if (vcpus->vcpu[i].run)
			munmap(vcpus->vcpu[i].run, vcpus->run_len);
		util_closep(&vcpus->vcpu[i].fd);
	}
	free(vcpus->vcpu);
	*vcpus = (struct vcpus){ 0 };
}
