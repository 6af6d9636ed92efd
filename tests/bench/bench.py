# SPDX-License-Identifier: Apache-2.0
"""Two VMMs that boot the same guest, side by side: what they are called with, and how their times are compared.

Runs alternate, so that what the host does besides hits both; a figure is the median of its runs.
"""
import os
import platform
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
IMAGES = BUILD / "images"
MEMORY_MIB = 128
LIMIT = 120  # seconds for one run
TAP = f"bench{os.getpid() % 100000}"
# What differs from one architecture to another: the kernel's file; what microvm itself puts on the kernel's command line, as
# its peer's guest gets the same help; and the peer's machine.
ARCH = platform.machine()
KERNEL, WORDS, MACHINE, PCI = {
    "x86_64": ("vmlinux", "tsc=reliable pci=noearly cryptomgr.notests 8250.nr_uarts=0 console=hvc0",
               "microvm,pit=off,pic=off,rtc=off,isa-serial=off,acpi=on", ",pcie=on"),
    "aarch64": ("Image", "cma=0 cryptomgr.notests 8250.nr_uarts=0 console=hvc0", "virt,gic-version=host", ""),
}[ARCH]


def tuned_or_stock(option=""):
    """The kernel to boot: the tuned one if it was built, and has the option; None: neither has."""
    kernels = (k for k in (IMAGES / "tuned", IMAGES / "guest") if (k / KERNEL).exists())
    return next((k / KERNEL for k in kernels if option in (k / "config").read_text()), None)


def in_the_lab():
    """Whether this is an emulated host of tests/lab/host."""
    return "lab.job=" in Path("/proc/cmdline").read_text()


def cpio(entries):
    """An initramfs: (name, mode, device number, content)."""
    def record(number, name, mode, device, data):
        fields = number, mode, 0, 0, 1, 0, len(data), 0, 0, device >> 8, device & 255, len(name) + 1, 0
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)

    records = [record(number, *entry) for number, entry in enumerate(entries, 1)]
    return b"".join(records) + record(0, "TRAILER!!!", 0, 0, b"")


class Place:
    """A directory in memory with all that is read while the clock runs, and a tap."""

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="bench.", dir="/dev/shm"))
        subprocess.run(["ip", "tuntap", "add", TAP, "mode", "tap", "vnet_hdr"], check=True)
        subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
        self.microvm = self.copy(BUILD / "microvm")
        # One each: what io_uring holds is let go of some time after the end.
        self.disks = self.dir / "our-disk", self.dir / "their-disk"
        for disk in self.disks:
            with open(disk, "wb") as file:
                file.truncate(64 << 20)
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "link", "del", TAP], check=False)
        shutil.rmtree(self.dir)

    def copy(self, path):
        return shutil.copy(path, self.dir)

    def commands(self, kernel, initrd=None, words="quiet", serial=False, ours=(), theirs=(), against=None):
        """The same guest by both: a vCPU, a disk, a network, entropy, and a console, by virtio or a serial port.

        against: another microvm, a copy of whose program it is, in QEMU's place.
        """
        boot = ["-initrd", initrd] if initrd else []
        if serial:
            our_console = ["--serial", "stdio", "--console", "none"]
            their_console = ["-M", "isa-serial=on", "-serial", "chardev:console"]
        else:
            our_console = []
            their_console = ["-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=console"]

        def microvm(program, disk):
            return [program, "--kernel", kernel, *(["--initrd", initrd] if initrd else []),
                    "--memory", f"{MEMORY_MIB}M", "--disk", disk, "--net", f"tap={TAP}", "--cmdline", words,
                    *our_console, *ours]

        if against:
            return {"microvm": microvm(self.microvm, self.disks[0]), "other": microvm(against, self.disks[1])}
        return {
            "microvm": microvm(self.microvm, self.disks[0]),
            "QEMU": [
                f"qemu-system-{ARCH}", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-M", f"{MACHINE},accel=kvm", "-m", str(MEMORY_MIB), "-kernel", kernel, *boot, "-append", f"{WORDS} {words}",
                "-object", "iothread,id=io",
                "-blockdev", f"driver=file,node-name=disk,filename={self.disks[1]},aio=io_uring",
                "-device", "virtio-blk-device,drive=disk,iothread=io",
                "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no", "-device", "virtio-net-device,netdev=net",
                "-device", "virtio-rng-device",
                "-chardev", "stdio,id=console,signal=off", *their_console, *theirs],
        }


class Process:
    """A VMM from the moment of its exec."""

    def __init__(self, command, stdin=subprocess.DEVNULL, limit=LIMIT):
        self.limit = limit
        self.watch()
        clock, clock_end = os.pipe()
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: os.write(clock_end, struct.pack("d", time.monotonic())))
        self.start, = struct.unpack("d", os.read(clock, 8))
        os.close(clock)
        os.close(clock_end)
        self.proc = Path("/proc", str(self.process.pid))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.process.kill()
        self.process.communicate()

    def watch(self):
        """Gives up on it if that is not called again, nor its end seen, within so many seconds."""
        signal.signal(signal.SIGALRM, self.give_up)
        signal.setitimer(signal.ITIMER_REAL, self.limit)

    def give_up(self, *_):
        raise SystemExit(f"{self.process.args} did nothing for {self.limit} s")

    def since_start(self, now=None):
        return (now or time.monotonic()) - self.start

    def line(self, word):
        """Waits for a line of the guest that begins with word; returns the rest of it."""
        said = []
        for line in self.process.stdout:
            if line.startswith(word.encode()):
                return line[len(word):].decode().strip()
            said.append(line)
        said += self.process.stderr
        raise SystemExit(f"{self.process.args[0]} ended: {b''.join(said[-10:]).decode()}")

    def end(self, status):
        """Waits for the end; returns the time that it took from the start."""
        found = self.process.wait()
        taken = self.since_start()
        if found != status:
            raise SystemExit(f"{self.process.args[0]}: exit status {found}: {self.process.stderr.read().decode()}")
        return taken

    def cpu_seconds(self):
        return sum(int(path.read_text().split()[0]) for path in self.proc.glob("task/*/schedstat")) / 1e9

    def overhead_mib(self):
        """Resident memory without the guest's, which is the mapping of just its size."""
        total, seen, guest = 0, 0, False
        for line in (self.proc / "smaps").read_text().splitlines():
            name, value, *_ = line.split()
            if name == "Size:":
                guest = int(value) == MEMORY_MIB << 10
                seen += guest
            elif name == "Rss:" and not guest:
                total += int(value)
        if seen != 1:
            raise SystemExit(f"{self.process.args[0]}: {seen} mappings look like the guest's memory")
        return total / 1024


class Table:
    """Figures by what they are and whose they are: ours first. A ratio is to what is better of the others'."""

    def __init__(self, names, better=min):
        self.names = names
        self.better = better
        self.rows = {}

    def add(self, title, unit, name, value):
        self.rows.setdefault((title, unit), {n: [] for n in self.names})[name].append(value)

    def medians(self, figures):
        return [statistics.median(figures[name]) for name in self.names]

    def to_others(self, figures):
        ours, *others = self.medians(figures)
        return ours / self.better(others)

    def show(self):
        scale = {"ms": 1000, "MiB": 1, "MB/s": 1e-6, "/s": 1, "": 1}
        print(f"{'':44}" + "".join(f"{name:>15}" for name in self.names) + f"{'ratio':>8}")
        for (title, unit), figures in self.rows.items():
            print(f"{title:44}" + "".join(f"{m * scale[unit]:10.1f} {unit:4}" for m in self.medians(figures)) +
                  f"{self.to_others(figures):8.2f}")

    def ratio(self, title):
        figures, = (f for (t, _), f in self.rows.items() if t == title)
        return self.to_others(figures)
