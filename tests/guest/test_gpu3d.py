# SPDX-License-Identifier: Apache-2.0
"""OpenGL in a guest, which borrows the host's Mesa: what that asks for is drawn by a microvm that was built with 3D."""
from guest import BUILD, Group, Skip, equal
from test_gpu import Graphics, Picture, needs_a_display


class Gl(Graphics, Group):
    machines = "x86_64",
    size = 640, 480

    def start(self):
        self.program = (BUILD / "guest-gpu3d/gles").resolve()
        if not self.long or not self.program.exists():
            raise Skip("takes --long, and a build with 3D: make check-gpu3d")
        needs_a_display()
        self.vm = self.boot("--memory", "512M", "--gpu", "3d,size={}x{}".format(*self.size),
                            "--screenshot-at-exit", self.dir / "head.png",
                            "--fs", "/,tag=host,ro", **self.kernel()).ready()
        self.vm.sh("modprobe virtio_gpu; mkdir -p /mnt && mount -t virtiofs host /mnt && "
                   "for i in dev proc sys; do mount --bind /$i /mnt/$i || exit; done")

    def test_3d_is_agreed(self):
        self.vm.sh("dmesg | grep 'features: +virgl'")

    def test_draws(self):
        renderer, result = self.vm.sh(f"chroot /mnt {self.program}", 300).splitlines()
        equal(renderer.split()[0], "virgl")
        equal(result, "0 pixels are wrong")

    def test_shows(self):
        self.vm.sh(f"(chroot /mnt {self.program} show >/tmp/show 2>&1) & "
                   "until grep . /tmp/show; do sleep 1; done", 300)
        equal(self.vm.sh("cat /tmp/show").split()[0], "virgl")

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)

    def test_left_a_picture(self):
        """The triangle is below the diagonal, on which no pixel has its middle."""
        picture = Picture(self.dir / "head.png")
        width, height = self.size
        equal(picture.size, self.size)
        red, blue = bytes((255, 0, 0)), bytes((0, 0, 255))
        for y, line in enumerate(picture.lines):
            inside = ((2 * y + 1) * width + height) // (2 * height)
            equal((y, line), (y, red * inside + blue * (width - inside)))
