# SPDX-License-Identifier: Apache-2.0
# make help lists the targets.

VERSION := 0.1.0
MACHINE := $(shell uname -m)
ARCH ?= $(MACHINE)
# For another architecture than this machine's: Debian's cross compiler and multiarch libraries, tests in an emulator.
CROSS := $(if $(filter-out $(MACHINE),$(ARCH)),$(ARCH)-linux-gnu-)
EMULATOR ?= $(if $(CROSS),qemu-$(ARCH))
BUILD ?= build$(if $(CROSS),/$(ARCH))
CC = $(CROSS)gcc
PKG_CONFIG ?= $(if $(CROSS),PKG_CONFIG_LIBDIR=/usr/lib/$(ARCH)-linux-gnu/pkgconfig) pkg-config
PREFIX ?= /usr/local
DESTDIR ?=
comma := ,
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# What it takes to build, and what the tests and the demo take besides: tools of this machine's, libraries of ARCH's.
DEPS_TOOLS = gcc make pkg-config clang clang-tidy cppcheck libclang-rt-14-dev llvm mandoc strace \
	python3 util-linux qemu-utils busybox-static cpio kmod lz4 xz-utils zstd gzip \
	libvncserver-dev binutils shellcheck mmdebstrap e2fsprogs iproute2 iputils-ping ethtool passt iperf3 fakeroot bc bison flex libelf-dev libssl-dev perl \
	$(if $(CROSS),gcc-$(ARCH)-linux-gnu qemu-user qemu-user-static arch-test) $(DEPS_TOOLS_$(ARCH))
DEPS_TOOLS_x86_64 := acpica-tools qemu-system-x86
DEPS_TOOLS_aarch64 := device-tree-compiler qemu-system-arm
DEPS_LIBS = libc6-dev linux-libc-dev libseccomp-dev libcap-ng-dev liburing-dev libjansson-dev libcmocka-dev \
	zlib1g-dev libzstd-dev libpng-dev libvncserver1 libvncclient1 $(DEPS_LIBS_$(ARCH))
DEPS_LIBS_aarch64 := libfdt-dev
ifdef GPU3D
DEPS_LIBS += libvirglrenderer-dev libegl-dev libegl1 libegl-mesa0 libgl1-mesa-dri libgles-dev libgbm-dev libdrm-dev
endif
# What a browser takes that looks at a screen: make check-web.
DEPS_WEB := chromium novnc websockify iproute2
DEBIAN_ARCH_x86_64 := amd64
DEBIAN_ARCH_aarch64 := arm64
DEBIAN_ARCH := $(DEBIAN_ARCH_$(ARCH))

FOLDERS := core seccomp devices/block devices/netdev devices/vhost devices/display devices/pci devices/platform \
	   arch/$(ARCH) boot devices/scsi devices/fs devices/vsock devices/gpu devices/virtio devices vmm
LIBS := libseccomp libcap-ng liburing jansson zlib libzstd
# It comes without a file for pkg-config.
PLAIN_LIBS_aarch64 := -lfdt

# make GPU3D=1: 3D for guests. virglrenderer is there as a shared object only, which loads Mesa's.
LEFT_OUT := $(if $(GPU3D),,devices/gpu_3d.c devices/gpu/virgl.c devices/gpu/virgl_stream.c)
ifneq ($(and $(GPU3D),$(STATIC)),)
$(error A static program cannot have 3D: make it without GPU3D)
endif
SRC := $(filter-out $(LEFT_OUT),$(foreach folder,$(FOLDERS),$(wildcard $(folder)/*.c)))
OBJ := $(SRC:%.c=$(BUILD)/%.o)
LIB := $(BUILD)/libmicrovm.a
UNIT := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c tests/unit/$(ARCH)/test_*.c $(if $(GPU3D),tests/unit/gpu3d/*.c)))
DISPLAY := $(patsubst %.c,$(BUILD)/%.o,$(wildcard display/*.c))
VDRV := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/lib/vdrv*.c))
FUZZ := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c tests/fuzz/$(ARCH)/fuzz_*.c))
CORE := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/bench/core*.c))
CONFORM := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/conform/*.c))

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wwrite-strings -Wvla -Wimplicit-fallthrough -Werror=implicit-function-declaration
# clang 14 has no -fstack-clash-protection but for PCs, and warns.
HARDEN := -fstack-protector-strong -fstack-clash-protection -fPIE -fno-strict-aliasing -fno-common \
	  $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2) $(if $(findstring clang,$(CC)),-Wno-unused-command-line-argument)
OPTIMISE ?= -O2 -g
PACKAGES := $(shell $(PKG_CONFIG) --cflags $(LIBS) 2>/dev/null)
PACKAGE_LIBS := $(shell $(PKG_CONFIG) $(if $(STATIC),--static) --libs $(LIBS) 2>/dev/null) $(PLAIN_LIBS_$(ARCH))
# From their archives, as finding and mapping four libraries takes 36 system calls at each start. SHARED=1 does without.
PACKAGE_LIBS := $(if $(SHARED)$(STATIC),$(PACKAGE_LIBS),-Wl$(comma)-Bstatic $(PACKAGE_LIBS) -Wl$(comma)-Bdynamic)
CPPFLAGS += -I. -I$(BUILD) -D_GNU_SOURCE -DMICROVM_VERSION='"$(VERSION)"' $(if $(GPU3D),-DMICROVM_GPU3D)
CFLAGS += -std=gnu17 $(OPTIMISE) $(WARN) $(HARDEN) -pthread $(PACKAGES) \
	  -ffunction-sections -fdata-sections $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer) \
	  $(if $(filter thread,$(SANITIZE)),-Wno-tsan)
# Packed relocations are 70 KiB less; Debian 12's linker has them for PCs only.
RELR_x86_64 := -Wl,-z,pack-relative-relocs
# libcap-ng has a function, unused here, that would need the C library's shared objects: no warning of it.
LDFLAGS += $(if $(STATIC),-static-pie -Wl$(comma)--no-warnings $(RELR_$(ARCH)),-pie) -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed,--gc-sections -pthread
LDLIBS += $(PACKAGE_LIBS) $(if $(GPU3D),-lvirglrenderer -lEGL)

# make V=1 shows the commands.
Q := $(if $(V),,@)
say = @$(if $(V),:,printf '  %-6s %s\n' $(1) $@)

# What a change of version, compiler or options rebuilds.
FLAGS := $(BUILD)/flags
.PHONY: FORCE
.DELETE_ON_ERROR:

.PHONY: all
all: $(BUILD)/microvm $(BUILD)/microvm-display ## build the programs (also: CC=, BUILD=, OPTIMISE=)

$(BUILD)/microvm: $(BUILD)/vmm/main.o $(LIB) $(FLAGS)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter-out $(FLAGS),$^) $(LDLIBS)

# Debian's development files of libvncserver are there for one architecture at a time, and its headers are the same for all.
$(BUILD)/microvm-display: $(DISPLAY) $(LIB) $(FLAGS)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter-out $(FLAGS),$^) $(LDLIBS) -l:libvncserver.so.1 -lpng

$(FLAGS): FORCE
	@# make expands the whole recipe before it runs its first line.
	$(shell mkdir -p $(@D))$(file >$@.new,$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(LDLIBS))
	@cmp -s $@.new $@ || cp $@.new $@
	@rm $@.new

$(LIB): $(filter-out $(BUILD)/vmm/main.o,$(OBJ))
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)$(CROSS)ar rcs $@ $^

$(BUILD)/%.o: %.c $(FLAGS)
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The kernel's own list: the names of system calls for the report of a violation.
$(BUILD)/syscall-names.h: $(FLAGS)
	$(Q)echo '#include <asm/unistd.h>' | $(CC) -E -dM - | \
		sed -n '/__NR_syscalls/d; s/^#define __NR_\([a-z0-9_]*\) [0-9_].*/\t[__NR_\1] = "\1",/p' | sort > $@ && [ -s $@ ]
$(BUILD)/seccomp/filter.o: $(BUILD)/syscall-names.h

$(UNIT): %: %.o $(LIB)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(LDLIBS) -lcmocka

$(BUILD)/tests/unit/test_viewer: $(BUILD)/microvm-display
$(BUILD)/tests/unit/test_viewer: private LDLIBS += -l:libvncclient.so.1 -lpng

$(BUILD)/tests/unit/test_vm: $(BUILD)/tests/unit/$(ARCH)/power_off.o

$(addprefix $(BUILD)/tests/unit/test_fs_,escape forget window): $(VDRV)

# Its functions in the place of the C library's.
$(BUILD)/tests/unit/test_hotpath: private LDFLAGS += $(addprefix -Wl$(comma)--wrap=,malloc calloc realloc free pthread_mutex_lock)

$(BUILD)/tests/unit/test_vhost $(BUILD)/tests/unit/test_scsi_unit: private LDFLAGS += -Wl,--wrap=ioctl

$(BUILD)/tests/unit/test_input_evdev: private LDFLAGS += $(addprefix -Wl$(comma)--wrap=,ioctl read write)

$(BUILD)/tests/unit/test_rng: private LDFLAGS += -Wl,--wrap=clock_gettime,--wrap=timerfd_settime

$(BUILD)/tests/unit/test_fs: private LDFLAGS += -Wl,--wrap=fsync
$(BUILD)/tests/unit/test_fs_forget: private LDFLAGS += -Wl,--wrap=timer_set
$(BUILD)/tests/unit/test_vsock_vhost: private LDFLAGS += -Wl,--wrap=ioctl,--wrap=vhost_kernel_open

$(BUILD)/tests/unit/test_qcow2_kill: private LDFLAGS += $(addprefix -Wl$(comma)--wrap=,pwritev2 fallocate fdatasync)

# libFuzzer brings main().
$(FUZZ): %: %.o $(VDRV) $(LIB) $(if $(findstring fuzzer,$(SANITIZE)),,$(BUILD)/tests/fuzz/replay.o)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(LDLIBS)

# Arm's kernels are unpacked by portable code, which is fuzzed where fuzzing is fast.
IMAGE := $(addprefix $(BUILD)/arch/aarch64/,image.o unpack.o)
$(BUILD)/tests/fuzz/fuzz_image: $(IMAGE)

$(BUILD)/tests/conform/conform: $(CONFORM) $(VDRV) $(LIB)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# A machine that takes orders.
$(BUILD)/tests/live/live: $(BUILD)/tests/live/live.o $(LIB)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Kept: make would take them for intermediate and remove them.
.SECONDARY: $(UNIT:=.o) $(FUZZ:=.o)

include images/images.mk

# Programs that the guest tests want in the initramfs.
GUEST := $(wildcard tests/guest/*.c tests/guest/$(ARCH)/*.c)
guest_program = $(CC) -std=gnu17 $(WARN) -Os -s -static -o $@ $<
$(BUILD)/guest-bin/%: tests/guest/%.c
	@mkdir -p $(@D)
	$(guest_program)
$(BUILD)/guest-bin/%: tests/guest/$(ARCH)/%.c
	@mkdir -p $(@D)
	$(guest_program)
$(BUILD)/images/initramfs.cpio: $(patsubst %.c,$(BUILD)/guest-bin/%,$(notdir $(GUEST)))

# What runs in a guest and on its host, from the directory that they share.
FSTEST := $(BUILD)/guest-fs/fstest
$(FSTEST): $(wildcard tests/guest/fs/*.[ch])
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE -I. $(WARN) -Os -s -static -o $@ $(filter %.c,$^)

# It runs in a guest that has its host's libraries.
GLES := $(BUILD)/guest-gpu3d/gles
$(GLES): $(wildcard tests/guest/gpu3d/*.[ch])
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -I. $(WARN) -Os -o $@ $(filter %.c,$^) $$($(PKG_CONFIG) --cflags --libs egl glesv2 gbm libdrm)

# ---- what a person calls ----

.PHONY: help deps static install uninstall demo clean
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# A package by its plain name is this machine's or anybody's. None may go for it: Debian's libfdt-dev is there for one
# architecture at a time.
deps_want = $(DEPS_TOOLS) $(DEPS_LIBS:%=%$(if $(CROSS),:$(DEBIAN_ARCH)))
deps: ## install the Debian packages that building and testing take
	@native=$$(dpkg --print-architecture); \
	missing=$$(dpkg-query -W -f '$${Package}:$${Architecture} $${db:Status-Status}\n' $(deps_want) 2>/dev/null | \
		awk -v native="$$native" '{ sub(":(all|" native ")$$", "", $$1) } $$2 == "installed" { have[$$1] = 1 } \
		     END { n = split("$(deps_want)", want); \
			   for (i = 1; i <= n; i++) if (!(want[i] in have)) printf "%s ", want[i] }'); \
	[ -z "$$missing" ] || { $(if $(CROSS),$(SUDO) dpkg --add-architecture $(DEBIAN_ARCH) && )$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove $$missing || \
		{ echo "cannot install, or not without removing something: $$missing" >&2; false; }; }

static: ## build one static-pie binary, stripped: $(BUILD)/static/microvm
	+@$(MAKE) --no-print-directory BUILD=$(BUILD)/static STATIC=1 OPTIMISE=-O2 $(BUILD)/static/microvm
	$(Q)$(CROSS)strip $(BUILD)/static/microvm

install: $(BUILD)/microvm $(BUILD)/microvm-display ## install to DESTDIR and PREFIX: programs, man page, completion
	install -D -m 755 $(BUILD)/microvm $(DESTDIR)$(PREFIX)/bin/microvm
	install -D -m 755 $(BUILD)/microvm-display $(DESTDIR)$(PREFIX)/libexec/microvm-display
	install -D -m 644 docs/microvm.1 $(DESTDIR)$(PREFIX)/share/man/man1/microvm.1
	install -D -m 644 contrib/completions/microvm.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/microvm

uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/microvm $(DESTDIR)$(PREFIX)/libexec/microvm-display $(DESTDIR)$(PREFIX)/share/man/man1/microvm.1 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/microvm

demo: deps ## install, build, and boot a Linux guest with disk, network and entropy
	+@$(MAKE) --no-print-directory all initramfs host-kernel
	@$(SUDO) tests/lab/host --arch $(ARCH) --env BUILD -- tests/demo

clean: ## remove everything that was built, images included
	rm -rf $(BUILD)

# ---- tests ----

.PHONY: check check-unit check-gpu3d check-web check-kernel check-conform check-vhost mutate check-fuzz fuzz fuzz-coverage fuzz-targets check-usage check-image check-guest check-budget asan tsan layers lint bench
check: deps ## install, build, and run every test
	+@$(MAKE) --no-print-directory -j$$(nproc) all static images
	@tests/check

# It has one thread, portable code, and a thousand runs of qemu-img.
UNIT_ONCE := $(BUILD)/tests/unit/test_qcow2_kill
check-unit: UNIT := $(if $(CROSS)$(filter thread,$(SANITIZE)),$(filter-out $(UNIT_ONCE),$(UNIT)),$(UNIT))
check-unit: $(UNIT) ## the unit tests (of this BUILD)
	@EMULATOR=$(EMULATOR) tests/unit/run $(UNIT)

# What qemu-user leaves out: filters of system calls, namespaces, io_uring, KVM, advice about memory.
UNIT_KERNEL := $(filter $(addprefix %/test_,balloon blk block console cpu deadline filter fs fs_escape fs_window gpu_hostile hotpath input irq jail mem net rng \
		 rng_egd sandbox scsi scsi_target tap virtio vm vsock_life worker),$(UNIT))
check-kernel: $(UNIT_KERNEL) host-kernel ## the unit tests that want a kernel of ARCH's, where need be in an emulated host
	@$(SUDO) tests/lab/host --arch $(ARCH) --memory 2048 --env BUILD -- tests/unit/run $(UNIT_KERNEL)

UNIT_GPU3D := $(filter $(BUILD)/tests/unit/gpu3d/%,$(UNIT))
ifndef GPU3D
check-gpu3d: ## install what 3D takes, build with it in a place of its own, and have pictures drawn, by a Linux guest as well
	+@$(MAKE) --no-print-directory GPU3D=1 deps
	+@$(MAKE) --no-print-directory -j$$(nproc) GPU3D=1 BUILD=$(BUILD)/gpu3d check-gpu3d
else
check-gpu3d: all $(UNIT_GPU3D) $(GLES) guest-kernel graphics host-kernel
	@tests/unit/run $(UNIT_GPU3D)
	@$(SUDO) tests/lab/host --memory 3072 --env BUILD -- tests/guest/run --long --transport pci -k /gl/
endif

$(BUILD)/tests/web/screen: $(BUILD)/tests/web/screen.o $(LIB)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

check-web: $(BUILD)/tests/web/screen $(BUILD)/microvm-display ## install a browser, and have it show and type what the README says it does
	+@$(MAKE) --no-print-directory deps_want="$(DEPS_WEB)" deps
	@$(SUDO) tests/web/run $^

asan: ## the unit tests under the address and undefined-behaviour sanitizers
	+@$(MAKE) --no-print-directory -j$$(nproc) BUILD=$(BUILD)/asan SANITIZE=address,undefined OPTIMISE='-O1 -g' check-unit

tsan: ## the unit tests under the thread sanitizer
	+@$(MAKE) --no-print-directory -j$$(nproc) BUILD=$(BUILD)/tsan SANITIZE=thread OPTIMISE='-O1 -g' check-unit

fuzz-targets: $(FUZZ)
fuzz_make = $(MAKE) --no-print-directory -j$$(nproc) $(if $(CROSS),,CC=clang) fuzz-targets
# An emulator has neither libFuzzer nor sanitizers.
fuzz_sanitized = $(fuzz_make) BUILD=$(BUILD)/fuzz $(if $(CROSS),,SANITIZE=fuzzer,address,undefined \
	OPTIMISE='-O1 -g -fno-sanitize-recover=all')

check-fuzz: ## what fuzzing has found worth keeping, once more under the sanitizers
	+@$(fuzz_sanitized)
	@EMULATOR=$(EMULATOR) tests/fuzz/run replay $(FUZZ:$(BUILD)/%=$(BUILD)/fuzz/%)

conform_make = $(MAKE) --no-print-directory -j$$(nproc) OPTIMISE='-O1 -g'
conform_in = BUILD=$(BUILD)/$(1) $(BUILD)/$(1)/tests/conform/conform
check-conform: $(if $(CROSS),$(BUILD)/tests/conform/conform) ## each class of devices against a driver that lies, under the sanitizers (also: SHORT=1)
ifdef CROSS
	@EMULATOR=$(EMULATOR) tests/conform/run $(SHORT:%=--short) $<
else
	+@$(conform_make) SANITIZE=address,undefined $(call conform_in,asan)
	+@$(conform_make) SANITIZE=thread $(call conform_in,tsan)
	@tests/conform/run $(SHORT:%=--short) $(BUILD)/asan/tests/conform/conform --short $(BUILD)/tsan/tests/conform/conform
endif

check-vhost: $(BUILD)/tests/conform/conform host-kernel ## conformance of a network whose packets the kernel's vhost moves, where need be in an emulated host
	@# A host with IPv6 sends packets of its own. What of a chain is wrong is the kernel's to say: it has no loops in tables, for one.
	@$(SUDO) tests/lab/host --arch $(ARCH) --env BUILD -- unshare --net sh -c \
		'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; exec $< --split --class net --options tap=tap%d,vhost=on features status reset queue registers config pci legal "save: and"'

mutate: ## what the ten bugs' tests are worth: takes their guards out one by one, in a copy of the tree
	@tests/conform/mutate

TIME ?= 60
JOBS ?= 1
fuzz: ## fuzz each target (also: TIME=seconds for each, JOBS=processes)
	+@$(fuzz_sanitized)
	@tests/fuzz/run fuzz $(TIME) $(JOBS) $(FUZZ:$(BUILD)/%=$(BUILD)/fuzz/%)

fuzz-coverage: ## the lines that the corpus reaches
	+@$(fuzz_make) BUILD=$(BUILD)/fuzz-coverage SANITIZE=fuzzer \
		OPTIMISE='-O1 -g -fprofile-instr-generate -fcoverage-mapping'
	@tests/fuzz/run coverage $(FUZZ:$(BUILD)/%=$(BUILD)/fuzz-coverage/%)

check-usage: $(BUILD)/microvm $(BUILD)/microvm-display ## a user's mistakes and what they are told
	@tests/guest/mistakes

check-image: $(BUILD)/microvm ## microvm image against qemu-img
	@tests/image/run

check-guest: $(BUILD)/microvm $(BUILD)/microvm-display $(BUILD)/tests/live/live $(FSTEST) $(if $(SHORT),guest-kernel initramfs graphics vsock-test host-kernel,images) ## real guests, where need be in an emulated host (also: SHORT=1)
	@$(SUDO) rm -rf $(BUILD)/guest-log
	@$(SUDO) tests/lab/host --arch $(ARCH) --memory 7168 --timeout 1500 --tries 8 --out $(BUILD)/guest-log --env BUILD -- \
		tests/guest/run $(SHORT:%=--short) --resume $(BUILD)/guest-log

check-budget: $(BUILD)/microvm static images ## size, memory and system calls
	@$(SUDO) tests/lab/host --arch $(ARCH) --env BUILD -- tests/guest/budget

layers: ## dependencies only point down
	@tests/layers

lint: $(BUILD)/syscall-names.h ## clang-tidy, cppcheck, gcc -fanalyzer, mandoc
	@ARCH=$(ARCH) CC=$(CC) tests/lint $(SRC) $(wildcard display/*.c) -- $(CPPFLAGS) -std=gnu17 $(PACKAGES)

# What guests run.
$(addprefix $(BUILD)/tests/bench/,init files talk): $(BUILD)/%: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARN) -Os -s -static -o $@ $<

bench: bench-boot bench-storage bench-fs bench-net ## ratios against QEMU's microvm or virt machine, in the same host

.PHONY: bench-boot
bench-boot: $(BUILD)/microvm $(BUILD)/tests/bench/init guest-kernel host-kernel ## start-up and memory against QEMU's, or those of another microvm (AGAINST=PROGRAM)
	@# Only PCs have KVMs that run no stock kernel; elsewhere the next line tells as much.
	$(if $(filter x86_64,$(ARCH)),@$(SUDO) env BUILD=$(BUILD) tests/bench/start)
	@$(SUDO) tests/lab/host --arch $(ARCH) --instructions --cpus 1 --timeout 1800 --env BUILD -- tests/bench/boot $(AGAINST:%=--against %)

# Bare metal: there is neither a library nor a state of vector registers.
$(BUILD)/tests/bench/guest/guest: $(filter-out %/peer.c,$(wildcard tests/bench/guest/*.[ch] tests/bench/guest/$(ARCH)/*))
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -O2 -g $(WARN) -Itests/bench/guest -ffreestanding -mgeneral-regs-only -fcf-protection=none \
		-fno-stack-protector -fno-asynchronous-unwind-tables -fno-pie -static -nostdlib \
		-Wl,-T,tests/bench/guest/$(ARCH)/guest.ld -Wl,--build-id=none,--no-warn-rwx-segments -o $@ $(filter %.S %.c,$^)
	@# An Image is just the bytes.
	$(if $(filter aarch64,$(ARCH)),$(Q)$(CROSS)objcopy -O binary $@)

$(BUILD)/tests/bench/guest/peer: tests/bench/guest/peer.c tests/bench/guest/frame.h
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -O2 -g $(WARN) -D_GNU_SOURCE -o $@ $<

# Where benches run that a PC's host, with any KVM, can run itself; with what options of the lab's; and the folder of their disks.
bench_disks := $(BUILD)/tests/bench/disks
bench_host = $(if $(filter x86_64,$(ARCH)),,tests/lab/host --arch $(ARCH) $(1) --timeout 1800 --env BUILD -- tests/bench/on-ext4 $(bench_disks))
bench_needs := $(if $(filter x86_64,$(ARCH)),,host-kernel) | $(bench_disks)
$(bench_disks):
	@mkdir -p $@

.PHONY: bench-storage
bench-storage: $(BUILD)/microvm guest-kernel initramfs storage host-kernel | $(bench_disks) ## disks against QEMU's, by fio in a Linux guest (also: STORAGE=turns)
	@$(SUDO) tests/lab/host --arch $(ARCH) --timeout 1800 --env BUILD -- \
		tests/bench/on-ext4 $(bench_disks) tests/bench/storage $(bench_disks) $(STORAGE)

.PHONY: bench-fs
bench-fs: $(BUILD)/microvm $(BUILD)/tests/bench/files guest-kernel initramfs host-kernel ## shared directories against QEMU's with virtiofsd, in a Linux guest (also: SHARE="runs files")
	@$(SUDO) tests/lab/host --arch $(ARCH) --instructions --cpus 1 --timeout 3600 --env BUILD -- tests/bench/fs $(SHARE)

.PHONY: bench-net
bench-net: $(BUILD)/microvm $(BUILD)/tests/bench/talk guest-kernel initramfs host-kernel ## taps and vsock against QEMU's, by a Linux guest (also: NETWORK="rounds ms")
	@$(SUDO) tests/lab/host --arch $(ARCH) --instructions --cpus 1 --timeout 3600 --env BUILD -- tests/bench/net $(NETWORK)

.PHONY: bench-native
bench-native: $(BUILD)/microvm $(BUILD)/tests/bench/guest/guest $(BUILD)/tests/bench/guest/peer $(bench_needs) ## devices against QEMU's, by a bare-metal guest that is fast on any KVM
	@$(SUDO) env BUILD=$(BUILD) $(call bench_host) unshare --net tests/bench/native --directory $(bench_disks) $(NATIVE)

$(BUILD)/tests/bench/core: $(CORE) $(VDRV) $(LIB)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

.PHONY: bench-core check-syscalls
bench-core: $(BUILD)/tests/bench/core $(bench_needs) ## devices without a VM against the same requests made directly
	@env BUILD=$(BUILD) $(call bench_host,--instructions --cpus 1) $< $(bench_disks)

check-syscalls: $(BUILD)/tests/bench/core $(bench_needs) ## no system call of a disk under load but the backend's
	@env BUILD=$(BUILD) $(call bench_host) tests/bench/syscalls $< $(bench_disks)

-include $(OBJ:.o=.d) $(DISPLAY:.o=.d) $(UNIT:=.d) $(FUZZ:=.d) $(IMAGE:.o=.d) $(VDRV:.o=.d) $(CONFORM:.o=.d) $(CORE:.o=.d) $(BUILD)/tests/live/live.d $(BUILD)/tests/web/screen.d
