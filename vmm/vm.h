/* SPDX-License-Identifier: Apache-2.0 */
/* One run of a machine, from the configuration to the exit status. */
#ifndef VMM_VM_H
#define VMM_VM_H

struct config;
struct sandbox;

/* What the main thread is confined to while the guest runs. */
extern const struct sandbox main_sandbox;

/*
 * Builds, confines and runs the machine until the guest ends or somebody ends
 * it; puts the terminal back. Returns the process's exit status (the table in
 * vm.c); whatever went wrong was reported.
 */
int vm_run(const struct config *config);

#endif
