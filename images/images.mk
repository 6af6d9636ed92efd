# What tests boot, made from Debian's packages. Include it after BUILD, ARCH (as uname -m has it), DEBIAN_ARCH and CROSS (empty
# for this machine's own architecture) are set; it wants nothing else.
#   make images          guest kernel, initramfs, tools for tests of disks, root disk, and the kernel of the emulated host
#   make dpdk            testpmd, a back end for vhost-user; a hundred packages, so it is made on request only
#   make tuned-kernel    a small guest kernel of our own configuration; takes minutes, so it is made on request only
# Programs in $(BUILD)/guest-bin become part of the initramfs: whoever makes them adds them to the prerequisites of
# $(BUILD)/images/initramfs.cpio.

images_src := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
images_out := $(BUILD)/images
images_tests := $(images_src)/../tests/guest/initramfs

# Debian's kernels for guests and for the emulated host, and the forms that we keep of them: as guests run it, and compressed.
# Arm's guests have the host's kernel, as the cloud's does not know a power button without ACPI.
images_x86_64 := linux-image-cloud-amd64 linux-image-amd64 vmlinux bzImage
images_aarch64 := linux-image-arm64 linux-image-arm64 Image Image.gz
KERNELS := $(wordlist 3,4,$(images_$(ARCH)))

.PHONY: images guest-kernel host-kernel initramfs graphics storage vsock-test debian-image dpdk tuned-kernel
images: guest-kernel initramfs graphics storage vsock-test debian-image host-kernel ## guest kernel, initramfs, root disk, the emulated host's kernel
guest-kernel: $(images_out)/guest/version
# A host of this machine's architecture has this machine's root.
host-kernel: $(images_out)/host/version $(images_out)/host/initramfs.cpio $(if $(CROSS),$(images_out)/host-root.img)
initramfs: $(images_out)/initramfs.cpio
graphics: $(images_out)/graphics.cpio
storage: $(images_out)/storage.cpio
vsock-test: $(images_out)/vsock-test/vsock_test.cpio
debian-image: $(images_out)/debian.img
dpdk: $(images_out)/dpdk/testpmd ## DPDK's testpmd, with which vhost-user is tested
tuned-kernel: $(images_out)/tuned/vmlinux ## a small guest kernel of our own configuration; takes minutes

# A recipe replaces its directory as a whole, so one file stands for all.
images_kernel := $(addprefix $(images_src)/,kernel vmlinux lib.sh)
images_guest := $(addprefix $(images_out)/guest/,$(KERNELS) config version)
images_host := $(addprefix $(images_out)/host/,$(KERNELS) config version)
$(images_guest) &: $(images_kernel)
	@$(images_src)/kernel $(word 1,$(images_$(ARCH))):$(DEBIAN_ARCH) $(images_out)/guest
$(images_host) &: $(images_kernel)
	@$(images_src)/kernel $(word 2,$(images_$(ARCH))):$(DEBIAN_ARCH) $(images_out)/host
$(images_out)/guest/modules: $(images_out)/guest/version ;
$(images_out)/host/modules: $(images_out)/host/version ;

$(images_out)/host/initramfs.cpio: $(images_out)/host/version $(addprefix $(images_src)/,host-initramfs host-init lib.sh)
	@$(images_src)/host-initramfs $(DEBIAN_ARCH) $(images_out)/host $@

$(images_out)/host-root.img: $(addprefix $(images_src)/,host-root lib.sh)
	@$(images_src)/host-root $(DEBIAN_ARCH) $@

# The directories themselves, too: they change when a file goes away.
$(images_out)/initramfs.cpio: $(images_out)/guest/version $(addprefix $(images_src)/,initramfs initramfs-init lib.sh) \
		$(shell find $(images_tests) $(BUILD)/guest-bin 2>/dev/null)
	@$(images_src)/initramfs $(DEBIAN_ARCH) $(images_out)/guest $@ $(images_tests) $(BUILD)/guest-bin

# The same for the host's kernel, as that of a cloud's guests has no graphics.
$(images_out)/graphics.cpio: $(images_out)/host/version $(images_out)/initramfs.cpio
	@$(images_src)/initramfs $(DEBIAN_ARCH) $(images_out)/host $@ $(images_tests) $(BUILD)/guest-bin

$(images_out)/storage.cpio: $(addprefix $(images_src)/,storage lib.sh)
	@$(images_src)/storage $(DEBIAN_ARCH) "$(CROSS)" $@

images_shim := $(images_src)/../tests/lib/vsock_unix.c
$(images_out)/vsock-test/vsock_test.cpio: $(addprefix $(images_src)/,vsock-test lib.sh) $(images_shim)
	@$(images_src)/vsock-test "$(CROSS)" $(images_shim) $(images_out)/vsock-test

$(images_out)/debian.img: $(images_out)/guest/version $(addprefix $(images_src)/,debian emulated lib.sh)
	@$(images_src)/debian $(DEBIAN_ARCH) $(images_out)/guest $@

$(images_out)/dpdk/testpmd: $(addprefix $(images_src)/,dpdk lib.sh)
	@$(images_src)/dpdk $(DEBIAN_ARCH) $(images_out)/dpdk

images_tuned := $(addprefix $(images_out)/tuned/,vmlinux bzImage config)
$(images_tuned) &: $(addprefix $(images_src)/,tuned-kernel tuned.config vmlinux lib.sh)
	@$(images_src)/tuned-kernel $(images_out)/tuned
