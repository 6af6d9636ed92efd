# SPDX-License-Identifier: Apache-2.0
"""Input devices: those of a display, and those of the host's, which uinput makes here."""
import errno
import fcntl
import os
import select
import signal
import struct
from pathlib import Path

from guest import Failure, Group, Skip, equal, run, until

SYN, KEY, REL, ABS, LED = 0, 1, 2, 3, 17
UI_DEV_CREATE, UI_DEV_DESTROY, UI_DEV_SETUP, UI_ABS_SETUP = 0x5501, 0x5502, 0x405c5503, 0x401c5504
UI_SET_EVBIT, UI_GET_SYSNAME, EVIOCGRAB = 0x40045564, 0x8040552c, 0x40044590
UI_SET_BIT = {KEY: 0x40045565, REL: 0x40045566, ABS: 0x40045567, LED: 0x40045569}
EVENT = struct.Struct("llHHi")


class Device:
    """An input device of this host's: codes are those of each type, axes have their ranges."""

    def __init__(self, name, codes, axes=()):
        try:
            run("modprobe", "-a", "uinput", "evdev")
            self.fd = os.open("/dev/uinput", os.O_RDWR | os.O_NONBLOCK)
        except (Failure, OSError) as error:
            raise Skip(f"no uinput: {error}") from error
        self.name = name
        for kind in codes:
            fcntl.ioctl(self.fd, UI_SET_EVBIT, kind)
            for code in codes[kind]:
                fcntl.ioctl(self.fd, UI_SET_BIT[kind], code)
        for code, (low, high) in dict(axes).items():
            fcntl.ioctl(self.fd, UI_ABS_SETUP, struct.pack("H2x6i", code, 0, low, high, 0, 0, 7))
        fcntl.ioctl(self.fd, UI_DEV_SETUP, struct.pack("4H80sI", 3, 0x1234, 0x5678, 1, name.encode(), 0))
        fcntl.ioctl(self.fd, UI_DEV_CREATE)
        system = fcntl.ioctl(self.fd, UI_GET_SYSNAME, bytes(64)).rstrip(b"\0").decode()
        directory = Path("/sys/devices/virtual/input") / system
        until(lambda: list(directory.glob("event*")))
        self.path = Path("/dev/input") / next(directory.glob("event*")).name
        until(self.path.exists)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def report(self, *events):
        for kind, code, value in *events, (SYN, 0, 0):
            os.write(self.fd, EVENT.pack(0, 0, kind, code, value))

    def lit(self):
        """The next light that is turned on or off: its code and value."""
        while select.select([self.fd], [], [], 20)[0]:
            *_, kind, code, value = EVENT.unpack(os.read(self.fd, EVENT.size))
            if kind == LED:
                return code, value
        raise Failure("no light")


class Input(Group):
    """All kinds at once."""

    transports = short = "pci",

    def start(self):
        self.devices = {}
        for name, codes, axes in (
                ("test keyboard", {KEY: range(1, 128), LED: range(3), 20: ()}, {}),
                ("test mouse", {KEY: range(272, 275), REL: (0, 1, 8)}, {}),
                ("test tablet", {KEY: range(272, 275), ABS: (0, 1)}, {0: (0, 32767), 1: (-9, 999)}),
                ("test touch", {KEY: (330,), ABS: (0, 1, 47, 53, 54, 57)},
                 {0: (0, 800), 1: (0, 600), 47: (0, 4), 53: (0, 800), 54: (0, 600), 57: (0, 65535)})):
            self.devices[name] = Device(name, codes, axes)
            self.stack.callback(self.devices[name].close)
        options = [word for device in self.devices.values()
                   for word in ("--input", f"evdev={device.path},grab")]
        self.vm = self.boot("--input", "keyboard", "--input", "mouse", "--input", "tablet",
                            "--input", "touch", *options).ready()

    def sees(self, name, *reports):
        """The guest gets just these reports of the device, when they happen on the host."""
        vm, device = self.vm, self.devices[name]
        vm.sh(f"evread '{name}' {len(reports)} >/tmp/events 2>&1 & reader=$!")
        until(lambda: vm.sh("cat /tmp/events").startswith("ready"))
        for report in reports:
            device.report(*report)
        vm.sh("wait $reader")
        wanted = [" ".join(map(str, event)) for report in reports for event in (*report, (SYN, 0, 0))]
        equal(vm.sh("cat /tmp/events").split("\n")[1:], wanted)

    def test_the_display_has_one_of_each(self):
        names = self.vm.sh("cat /sys/class/input/input*/name").split("\n")
        for kind in "keyboard", "mouse", "tablet", "touch screen":
            equal(names.count(f"microvm {kind}"), 1)
        keyboard = self.vm.sh("grep -l 'microvm keyboard' /sys/class/input/input*/name")
        keyboard = keyboard.removesuffix("/name")
        equal(self.vm.sh(f"cat {keyboard}/capabilities/ev"), "120003")
        equal(self.vm.sh(f"cat {keyboard}/capabilities/led"), "7")

    def test_keyboard(self):
        self.sees("test keyboard", [(KEY, 30, 1)], [(KEY, 30, 0)], [(KEY, 42, 1), (KEY, 2, 1)],
                  [(KEY, 2, 0), (KEY, 42, 0)])

    def test_mouse(self):
        self.sees("test mouse", [(REL, 0, -5), (REL, 1, 7)], [(KEY, 272, 1)], [(REL, 8, -1)],
                  [(KEY, 272, 0)])

    def test_tablet(self):
        self.sees("test tablet", [(ABS, 0, 32767), (ABS, 1, -9)], [(ABS, 1, 999), (KEY, 273, 1)],
                  [(KEY, 273, 0)])
        device = self.vm.sh("grep -l 'test tablet' /sys/class/input/input*/name").removesuffix("/name")
        equal(self.vm.sh(f"cat {device}/capabilities/abs"), "3")
        equal(self.vm.sh(f"cat {device}/id/product"), "5678")

    def test_two_fingers(self):
        self.sees("test touch",
                  [(ABS, 57, 10), (ABS, 53, 100), (ABS, 54, 50), (KEY, 330, 1), (ABS, 0, 100)],
                  [(ABS, 47, 1), (ABS, 57, 11), (ABS, 53, 700), (ABS, 54, 500)],
                  [(ABS, 47, 0), (ABS, 57, -1)], [(ABS, 47, 1), (ABS, 57, -1), (KEY, 330, 0)])

    def test_lights(self):
        keyboard = self.devices["test keyboard"]
        while select.select([keyboard.fd], [], [], 0)[0]:
            os.read(keyboard.fd, EVENT.size)
        for code, value in (1, 1), (0, 1), (1, 0):
            self.vm.sh(f"evread 'test keyboard' light {code} {value}")
            equal(keyboard.lit(), (code, value))

    def test_more_than_the_kernel_keeps(self):
        """microvm is stopped meanwhile: then the state of the device counts."""
        vm, keyboard = self.vm, self.devices["test keyboard"]
        vm.sh("evread 'test keyboard' 10000 >/tmp/events 2>&1 & reader=$!")
        until(lambda: vm.sh("cat /tmp/events").startswith("ready"))
        os.kill(vm.pid, signal.SIGSTOP)
        for _ in range(200):
            keyboard.report((KEY, 30, 1))
            keyboard.report((KEY, 30, 0))
        keyboard.report((KEY, 48, 1))
        os.kill(vm.pid, signal.SIGCONT)
        until(lambda: vm.ask("grep -q '^1 48 1' /tmp/events")[0] == 0)
        keyboard.report((KEY, 48, 0))
        until(lambda: vm.ask("grep -q '^1 48 0' /tmp/events")[0] == 0)
        # The guest repeats a key that it sees held.
        keys = vm.sh("kill $reader; grep '^1 .* [01]$' /tmp/events").split("\n")
        assert keys[-2:] == ["1 48 1", "1 48 0"] and len(keys) < 400, keys[-4:]
        assert keys.count("1 30 1") == keys.count("1 30 0"), keys

    def test_is_grabbed(self):
        device = os.open(self.devices["test mouse"].path, os.O_RDONLY)
        error = 0
        try:
            fcntl.ioctl(device, EVIOCGRAB, 1)
        except OSError as failure:
            error = failure.errno
        os.close(device)
        equal(error, errno.EBUSY)

    def test_unplugged_with_a_key_down(self):
        vm, keyboard = self.vm, self.devices["test keyboard"]
        vm.sh("evread 'test keyboard' 2 >/tmp/events 2>&1 & reader=$!")
        until(lambda: vm.sh("cat /tmp/events").startswith("ready"))
        keyboard.report((KEY, 30, 1))
        # What nobody has read goes with the device.
        until(lambda: vm.sh("cat /tmp/events").endswith("1 30 1\n0 0 0"))
        keyboard.close()
        vm.sh("wait $reader")
        # The host's kernel lets go of it, with a report of its own.
        equal(vm.sh("cat /tmp/events").split("\n")[1:4], ["1 30 1", "0 0 0", "1 30 0"])
        assert "is gone" in vm.errors()
        self.sees("test mouse", [(REL, 0, 1)])
