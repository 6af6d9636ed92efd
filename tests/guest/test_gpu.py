# SPDX-License-Identifier: Apache-2.0
"""The graphics adapter under Linux' DRM driver: what it shows is what pictures of it show."""
import ctypes
import re
import subprocess

from guest import BUILD, IMAGES, MACHINE, Group, Skip, equal, until
from test_live import Orders

CELL = 8, 16  # a character's pixels on Linux' console


class PngImage(ctypes.Structure):
    """libpng's png_image."""

    _fields_ = [("opaque", ctypes.c_void_p),
                *((name, ctypes.c_uint32) for name in ("version", "width", "height", "format",
                                                       "flags", "colors", "failed")),
                ("message", ctypes.c_char * 64)]


class Picture:
    """What is in a PNG file: lines of 3 bytes for each pixel."""

    def __init__(self, path):
        try:
            png = ctypes.CDLL("libpng16.so.16")
        except OSError as error:
            raise Skip(str(error)) from error
        image = PngImage(version=1)
        png.png_image_begin_read_from_file(ctypes.byref(image), str(path).encode())
        image.format = 2  # red, green, blue
        pixels = ctypes.create_string_buffer(image.width * image.height * 3)
        png.png_image_finish_read(ctypes.byref(image), None, pixels, 0, None)
        equal(image.message, b"")
        self.size = image.width, image.height
        pitch = image.width * 3
        self.lines = [pixels.raw[y * pitch:(y + 1) * pitch] for y in range(image.height)]

    def cell(self, column, row):
        """Where a character of a text console is."""
        left, top = column * CELL[0] * 3, row * CELL[1]
        return b"".join(line[left:left + CELL[0] * 3] for line in self.lines[top:top + CELL[1]])


def smpte(width, height):
    """The lines of the pattern that modetest fills a buffer with."""
    grey, yellow, cyan, green = (192, 192, 192), (192, 192, 0), (0, 192, 192), (0, 192, 0)
    magenta, red, blue, black = (192, 0, 192), (192, 0, 0), (0, 0, 192), (19, 19, 19)
    top = grey, yellow, cyan, green, magenta, red, blue
    middle = blue, black, magenta, black, cyan, black, grey
    bottom = (0, 33, 76), (255, 255, 255), (50, 0, 106), black
    shades = (9, 9, 9), black, (29, 29, 29), black
    large, small = width * 5 // 7, width * 6 // 7

    def last(x):
        if x < large:
            return bottom[x * 4 // large]
        return shades[(x - large) * 3 // (width // 7)] if x < small else black
    upper = b"".join(bytes(top[x * 7 // width]) for x in range(width))
    center = b"".join(bytes(middle[x * 7 // width]) for x in range(width))
    lower = b"".join(bytes(last(x)) for x in range(width))
    ends = height * 6 // 9, height * 7 // 9
    return [upper] * ends[0] + [center] * (ends[1] - ends[0]) + [lower] * (height - ends[1])


def needs_a_display():
    """It ends at once where nobody gives it its files; 127 is the loader's, as in an emulated host of another architecture."""
    if subprocess.run([BUILD / "microvm-display"], capture_output=True, check=False).returncode == 127:
        raise Skip("microvm-display does not run on this host, whose libraries are not there")


class Graphics:
    """What these groups share: a kernel with DRM, which that of a cloud's guests has not."""

    def kernel(self):
        return {"kernel": IMAGES / "host" / MACHINE.kernels[1],
                "initrd": IMAGES / "graphics.cpio"}

    def connectors(self, vm):
        """The numbers of those that have a monitor, for modetest."""
        lines = vm.sh("modetest -M virtio_gpu -c").splitlines()
        return [line.split()[0] for line in lines if "\tconnected" in line]


class Gpu(Graphics, Group):
    """A text console on the first head, modes of modetest's on two others."""

    short = ("pci",)
    size = 640, 480

    def start(self):
        needs_a_display()
        self.vm = self.boot("--gpu", "heads=3,size={}x{},display=headless".format(*self.size),
                            "--screenshot-at-exit", self.dir / "head.png", "--memory", "512M",
                            **self.kernel()).ready()

    def test_has_a_text_console(self):
        equal(self.vm.sh("cat /sys/class/graphics/fb0/virtual_size"), "640,480")
        # All characters, and no cursor that blinks.
        text = "".join(map(chr, range(0x21, 0x7f))).replace("'", "'\\''")
        self.vm.sh(r"printf '\033[2J\033[H\033[?25l' >/dev/tty1; "
                   f"for i in 1 2 3; do echo '{text}'; done >/dev/tty1")
        self.columns, rows = (self.size[i] // CELL[i] for i in (0, 1))
        equal(self.vm.sh("stty -F /dev/tty1 size"), f"{rows} {self.columns}")
        self.text = self.vm.sh("cat /dev/vcs1 | tr '\\0' ' '")
        self.text = self.text.ljust(self.columns * rows)

    def test_shows_modes(self):
        connectors = self.connectors(self.vm)
        equal(len(connectors), 3)
        modes = " ".join(f"-s {number}:{self.size[0]}x{self.size[1]}" for number in connectors[1:])
        # It reads when all is done.
        self.vm.sh(f"(sleep 1000 | modetest -M virtio_gpu {modes} >/tmp/modetest 2>&1) & "
                   "until grep -q pipe /proc/$(pidof modetest)/wchan; do usleep 100000; done")

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)

    def test_left_pictures_of_the_modes(self):
        """modetest's heads are side by side in one buffer."""
        width, height = self.size
        lines = smpte(2 * width, height)
        for head in 0, 1:
            picture = Picture(self.dir / f"head-{head + 1}.png")
            equal(picture.size, self.size)
            assert picture.lines == [line[head * width * 3:(head + 1) * width * 3]
                                     for line in lines]

    def test_left_a_text_that_can_be_read(self):
        """Each character has one look, which no other has."""
        picture = Picture(self.dir / "head.png")
        equal(picture.size, self.size)
        looks = {}
        for place, character in enumerate(self.text):
            look = picture.cell(place % self.columns, place // self.columns)
            equal((character, looks.setdefault(character, look) == look), (character, True))
        assert len(looks) > 94, looks.keys()
        equal(len(set(looks.values())), len(looks))


class LiveGpu(Graphics, Orders, Group):
    """Monitors that come, go and change."""

    def start(self):
        self.vm = self.obedient("--gpu", "heads=2,size=800x600", "--memory", "512M", **self.kernel())

    def monitors(self):
        """As the driver sees them when it looks: whether one is there, and what it likes best."""
        return re.findall(r"\t(connected|disconnected)\tVirtual.*(?:\n  modes:\n.*\n  #0 (\S+))?",
                          self.vm.sh("modetest -M virtio_gpu -c"))

    def becomes(self, *monitors):
        until(lambda: self.monitors() == list(monitors))

    def test_begins_as_configured(self):
        equal(self.monitors(), [("connected", "800x600")] * 2)

    def test_changes_its_size(self):
        self.order("monitor 0 1366 768")
        self.becomes(("connected", "1366x768"), ("connected", "800x600"))

    def test_is_pulled_out_and_plugged_in(self):
        self.order("monitor 1 0 0")
        self.becomes(("connected", "1366x768"), ("disconnected", ""))
        self.order("monitor 1 4095 2160")
        self.becomes(("connected", "1366x768"), ("connected", "4095x2160"))

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)
