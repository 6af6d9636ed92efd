# SPDX-License-Identifier: Apache-2.0
"""OpenGL in a guest, which borrows the host's Mesa: what that asks for is drawn by a microvm that was built with 3D."""
from guest import BUILD, Group, Skip, equal
from test_gpu import Graphics


class Gl(Graphics, Group):
    machines = "x86_64",

    def start(self):
        self.program = (BUILD / "guest-gpu3d/gles").resolve()
        if not self.long or not self.program.exists():
            raise Skip("takes --long, and a build with 3D: make check-gpu3d")
        self.vm = self.boot("--memory", "512M", "--gpu", "3d", "--fs", "/,tag=host,ro",
                            **self.kernel()).ready()
        self.vm.sh("modprobe virtio_gpu; mkdir -p /mnt && mount -t virtiofs host /mnt && "
                   "for i in dev proc sys; do mount --bind /$i /mnt/$i || exit; done")

    def test_3d_is_agreed(self):
        self.vm.sh("dmesg | grep 'features: +virgl'")

    def test_draws(self):
        renderer, result = self.vm.sh(f"chroot /mnt {self.program}", 300).splitlines()
        equal(renderer.split()[0], "virgl")
        equal(result, "0 pixels are wrong")

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)
