# SPDX-License-Identifier: Apache-2.0
# make help lists the targets.

VERSION := 0.1.0
BUILD ?= build
ARCH ?= $(shell uname -m)
CC = gcc
PKG_CONFIG ?= pkg-config
PREFIX ?= /usr/local
DESTDIR ?=

FOLDERS := core seccomp devices/block devices/netdev devices/pci devices/platform \
	   arch/$(ARCH) boot devices/virtio devices vmm
LIBS := libseccomp libcap-ng liburing jansson

SRC := $(foreach folder,$(FOLDERS),$(wildcard $(folder)/*.c))
OBJ := $(SRC:%.c=$(BUILD)/%.o)
LIB := $(BUILD)/libmicrovm.a

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wwrite-strings -Wvla -Wimplicit-fallthrough -Werror=implicit-function-declaration
HARDEN := -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2 -fPIE \
	  -fno-strict-aliasing -fno-common
CPPFLAGS += -I. -I$(BUILD) -D_GNU_SOURCE -DMICROVM_VERSION='"$(VERSION)"'
OPTIMISE ?= -O2 -g
CFLAGS += -std=gnu17 $(OPTIMISE) $(WARN) $(HARDEN) -pthread $(shell $(PKG_CONFIG) --cflags $(LIBS))
LDFLAGS += -pie -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed -pthread
LDLIBS += $(shell $(PKG_CONFIG) --libs $(LIBS))

.PHONY: all
all: $(BUILD)/microvm

$(BUILD)/microvm: $(BUILD)/vmm/main.o $(LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIB): $(filter-out $(BUILD)/vmm/main.o,$(OBJ))
	rm -f $@
	ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The kernel's own list: the names of system calls for the violation report.
$(BUILD)/syscall-names.h:
	@mkdir -p $(@D)
	echo '#include <asm/unistd.h>' | $(CC) -E -dM - | \
		sed -n 's/^#define __NR_\([a-z0-9_]*\) [0-9].*/\t[__NR_\1] = "\1",/p' | sort > $@
$(BUILD)/seccomp/filter.o: $(BUILD)/syscall-names.h

-include $(OBJ:.o=.d)
