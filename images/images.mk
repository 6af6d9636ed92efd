# What tests boot, made from Debian's packages. Include it after BUILD and ARCH (as uname -m has it) are set; it wants nothing
# else.
#   make images          guest kernel, initramfs, root disk, and the kernel of the emulated host
#   make tuned-kernel    a small guest kernel of our own configuration; takes minutes, so it is made on request only
# Programs in $(BUILD)/guest-bin become part of the initramfs: whoever makes them adds them to the prerequisites of
# $(BUILD)/images/initramfs.cpio.

images_src := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
images_out := $(BUILD)/images
images_tests := $(images_src)/../tests/guest/initramfs

# Debian's name of the architecture, and a kernel's forms: as guests run it, and compressed.
images_x86_64 := amd64 vmlinux bzImage
images_aarch64 := arm64 Image Image.gz
images_arch := $(firstword $(images_$(ARCH)))
KERNELS := $(wordlist 2,3,$(images_$(ARCH)))

.PHONY: images guest-kernel host-kernel initramfs debian-image tuned-kernel
images: guest-kernel initramfs debian-image host-kernel ## guest kernel, initramfs, root disk, the emulated host's kernel
guest-kernel: $(images_out)/guest/version
host-kernel: $(images_out)/host/version $(images_out)/host/initramfs.cpio
# A host of this machine's architecture has this machine's root.
ifneq ($(ARCH),$(shell uname -m))
host-kernel: $(images_out)/host-root.img
endif
initramfs: $(images_out)/initramfs.cpio
debian-image: $(images_out)/debian.img
tuned-kernel: $(images_out)/tuned/vmlinux ## a small guest kernel of our own configuration; takes minutes

# A recipe replaces its directory as a whole, so one file stands for all.
images_kernel := $(addprefix $(images_src)/,kernel vmlinux lib.sh)
images_guest := $(addprefix $(images_out)/guest/,$(KERNELS) config version)
images_host := $(addprefix $(images_out)/host/,$(KERNELS) config version)
$(images_guest) &: $(images_kernel)
	@$(images_src)/kernel linux-image-cloud-$(images_arch):$(images_arch) $(images_out)/guest
$(images_host) &: $(images_kernel)
	@$(images_src)/kernel linux-image-$(images_arch):$(images_arch) $(images_out)/host
$(images_out)/guest/modules: $(images_out)/guest/version ;
$(images_out)/host/modules: $(images_out)/host/version ;

$(images_out)/host/initramfs.cpio: $(images_out)/host/version $(addprefix $(images_src)/,host-initramfs host-init lib.sh)
	@$(images_src)/host-initramfs $(images_arch) $(images_out)/host $@

$(images_out)/host-root.img: $(addprefix $(images_src)/,host-root lib.sh)
	@$(images_src)/host-root $(images_arch) $@

# The directories themselves, too: they change when a file goes away.
$(images_out)/initramfs.cpio: $(images_out)/guest/version $(addprefix $(images_src)/,initramfs initramfs-init lib.sh) \
		$(shell find $(images_tests) $(BUILD)/guest-bin 2>/dev/null)
	@$(images_src)/initramfs $(images_arch) $(images_out)/guest $@ $(images_tests) $(BUILD)/guest-bin

$(images_out)/debian.img: $(images_out)/guest/version $(addprefix $(images_src)/,debian lib.sh)
	@$(images_src)/debian $(images_out)/guest $@

images_tuned := $(addprefix $(images_out)/tuned/,vmlinux bzImage config)
$(images_tuned) &: $(addprefix $(images_src)/,tuned-kernel tuned.config vmlinux lib.sh)
	@$(images_src)/tuned-kernel $(images_out)/tuned
