# SPDX-License-Identifier: Apache-2.0
"""Disks that change while the guest runs, by the orders that tests/live/live takes."""
import socket
from pathlib import Path

from guest import BUILD, MICROVM, Group, equal, run, until

MIB = 1 << 20
LIVE = BUILD / "tests/live/live"
UNIT = 7  # the number of the one that comes and goes


class Orders:
    """What groups with a machine that takes orders share."""

    transports = ("pci",)

    def obedient(self, *arguments, fds=(), **keys):
        """That machine, which has these files, too."""
        self.orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.orders.settimeout(60)
        with theirs:
            return self.boot(*arguments, prefix=(LIVE,), program=theirs.fileno(),
                             pass_fds=(theirs.fileno(), *fds), **keys).ready()

    def answer(self, text):
        self.orders.send(text.encode())
        return int(self.orders.recv(64))

    def order(self, text):
        equal((text, self.answer(text)), (text, 0))


class Live(Orders):
    """What these groups share."""

    def live(self, *arguments, late):
        """A machine that has the file of a unit that may come."""
        file = self.stack.enter_context(open(late, "r+b"))
        self.late, self.fd = late, file.fileno()
        self.vm = self.obedient(*arguments, fds=(self.fd,))
        for module in "virtio_scsi", "sd_mod":
            self.vm.sh(f"modprobe {module}")

    def qcow2(self, name):
        path = self.dir / name
        run(MICROVM, "image", "create", path, 8 * MIB, "--format", "qcow2")
        return path

    def plug(self, options="late"):
        self.order(f"plug {UNIT} {self.fd} {options}")

    def unplug(self):
        self.order(f"unplug {UNIT}")

    def is_gone(self):
        until(lambda: self.vm.ask(f"[ -e /sys/bus/scsi/devices/*:0:0:{UNIT} ]")[0] == 1, 60)

    def fill(self):
        """Random data to the unit; returns its checksum, as the disk itself has it."""
        name, = self.vm.units(UNIT)
        self.vm.sh(f"dd if=/dev/urandom of=/dev/{name} bs=1M count=8 conv=fsync")
        written = self.vm.sha256(f"/dev/{name}")
        self.vm.sh("echo 3 >/proc/sys/vm/drop_caches")
        equal(self.vm.sha256(f"/dev/{name}"), written)
        return written


class LiveFormats(Live, Group):
    """Resize, and a qcow2 unit that comes, on a controller with one queue as qcow2 has."""

    def start(self):
        self.raw = self.image("raw", 4 * MIB)
        self.live("--disk", self.image("disk", 4 * MIB), "--scsi", self.raw,
                  "--scsi", f"{self.qcow2('qcow2')},format=qcow2", late=self.qcow2("late"))

    def has_sectors(self, name, count):
        until(lambda: self.vm.sh(f"cat /sys/block/{name}/size") == str(count), 60)

    def test_see_new_sizes(self):
        raw, qcow2 = self.vm.units(0, 1)
        self.order(f"resize-disk blk0 {8 * MIB}")
        self.order(f"resize-unit 0 {8 * MIB}")
        self.order(f"resize-unit 1 {16 * MIB}")
        equal(self.raw.stat().st_size, 8 * MIB)
        for name, size in ("vda", 8), (raw, 8), (qcow2, 16):
            self.has_sectors(name, size * MIB // 512)
            # What is new can be used.
            self.vm.sh(f"dd if=/dev/urandom of=/dev/{name} bs=1M seek={size - 1} count=1 "
                       "conv=fsync")

    def test_find_a_unit_that_comes(self):
        self.plug("late,format=qcow2")
        written = self.fill()
        self.unplug()
        self.is_gone()
        copy = self.dir / "copy"
        run("qemu-img", "check", self.late)
        run("qemu-img", "convert", "-O", "raw", self.late, copy)
        equal(run("sha256sum", copy).split()[0], written)


class LiveUnits(Live, Group):
    """Units that come to a controller without any, with two queues, and go."""

    def start(self):
        self.live("--scsi", "controller,queues=2", late=self.image("late", 8 * MIB))

    def test_are_found_and_work(self):
        self.plug()
        equal(self.fill(), run("sha256sum", self.late).split()[0])
        self.unplug()
        self.is_gone()

    def test_go_under_load(self):
        self.plug()
        name, = self.vm.units(UNIT)
        self.vm.sh(f"while [ -b /dev/{name} ]; do dd if=/dev/zero of=/dev/{name} bs=64k count=128 "
                   "oflag=direct; done >/dev/null 2>&1 & writer=$!")
        until(lambda: int(self.vm.sh(f"cat /sys/block/{name}/stat").split()[4]))
        self.unplug()
        self.is_gone()
        self.vm.sh("wait $writer; true", 60)

    def held(self):
        """How many fds each thread has, and how many kilobytes the process."""
        process = Path("/proc", str(self.vm.pid))
        fds = sorted(len(list(task.glob("fd/*"))) for task in process.glob("task/*"))
        return fds, int(run("sed", "-n", "s/^VmData:[^0-9]*\\([0-9]*\\).*/\\1/p",
                            process / "status"))

    def test_leave_nothing(self):
        self.plug()
        self.unplug()
        fds, kilobytes = self.held()
        for _ in range(20):
            self.plug()
            self.unplug()
        equal(self.held()[0], fds)
        if self.held()[1] > kilobytes + 1024:
            equal(self.held()[1], kilobytes)
        self.plug()
        name, = self.vm.units(UNIT)
        self.vm.sh(f"dd if=/dev/{name} of=/dev/null bs=1M")
        equal(self.vm.power_off(), 0)
