# SPDX-License-Identifier: Apache-2.0
"""The machine: kernels, processors, memory, entropy, and the ways in which a guest ends."""
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import threading
import time
from pathlib import Path

from guest import IMAGES, MACHINE, Group, Skip, equal, run, until


class Debian(Group):
    """A root disk with systemd, from the prompt for a login to the end."""

    transports = "pci",

    def start(self):
        shutil.copy(IMAGES / "debian.img", self.dir)
        self.vm = self.launch("--kernel", self.files / MACHINE.kernel,
                              "--initrd", self.files / "initramfs.cpio",
                              "--disk", self.dir / "debian.img", "--cpus", 2, "--memory", "512M",
                              "--cmdline", "quiet")

    def test_asks_for_a_login(self):
        self.vm.expect("microvm login: ", 400)

    def test_lets_root_in(self):
        self.vm.send("root\n")
        self.vm.expect("# ", 120)
        self.vm.send("findmnt -no SOURCE,OPTIONS / | tr , ' '\n")
        self.vm.expect("/dev/vda rw ", 60)

    def test_powers_off_with_0(self):
        self.vm.send("poweroff\n")
        equal(self.vm.wait(300), 0)


class DirectoryRoot(Group):
    """The initramfs' own tree, as a root that is a shared directory."""

    transports = "pci",

    def start(self):
        self.root = self.dir / "root"
        self.root.mkdir()
        with open(self.files / "initramfs.cpio", "rb") as archive:
            run("cpio", "-idm", "--quiet", "-D", self.root, stdin=archive)
        self.vm = self.launch("--kernel", self.files / MACHINE.kernel,
                              "--initrd", self.files / "initramfs.cpio",
                              "--fs", f"{self.root},tag=tree", "--root", "fs",
                              "--cmdline", "quiet init=/tests/agent").ready()

    def test_is_the_root(self):
        equal(self.vm.sh("grep -c '^tree / virtiofs rw' /proc/mounts"), "1")

    def test_writes(self):
        self.vm.sh("echo text >/new && chown 5:6 /new")
        equal((self.root / "new").read_text(), "text\n")
        equal((self.root / "new").stat().st_uid, 5)

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)


class SharedRoot(Group):
    """Debian's tree likewise."""

    transports = "pci",

    def start(self):
        if not self.long:
            raise Skip("takes minutes: --long")
        root = self.mount(Path(shutil.copy(IMAGES / "debian.img", self.dir)))
        (root / "etc/fstab").write_text("tree / virtiofs defaults 0 0\n")
        self.root = root
        self.vm = self.launch("--kernel", self.files / MACHINE.kernel,
                              "--initrd", self.files / "initramfs.cpio",
                              "--fs", f"{root},tag=tree", "--root", "fs", "--cpus", 2,
                              "--memory", "512M", "--cmdline", "quiet")

    def test_asks_for_a_login(self):
        self.vm.expect("microvm login: ", 400)

    def test_lets_root_in(self):
        self.vm.send("root\n")
        self.vm.expect("# ", 120)
        self.vm.send("findmnt -no SOURCE,FSTYPE,OPTIONS / | tr , ' '\n")
        self.vm.expect("tree +virtiofs +rw ", 60)

    def test_writes(self):
        self.vm.send("useradd -m somebody && su -c 'id -un >~/name' somebody; echo status=$?\n")
        self.vm.expect("status=0", 120)
        equal((self.root / "home/somebody/name").read_text(), "somebody\n")

    def test_powers_off_with_0(self):
        self.vm.send("poweroff\n")
        equal(self.vm.wait(300), 0)


class Grace(Group):
    """A guest that is asked to power off before it could listen."""

    transports = "pci",

    def start(self):
        self.vm = self.boot()
        time.sleep(2)
        self.asked = time.monotonic()
        self.vm.process.send_signal(signal.SIGTERM)

    def test_ends_with_130_after_the_grace(self):
        equal(self.vm.wait(90), 130)
        assert time.monotonic() - self.asked > 29
        assert "did not power off in time" in self.vm.errors()


class Small(Group):
    """A vCPU and 128 MiB."""

    def start(self):
        self.vm = self.boot("--memory", "128M", "--name", "small", "--pidfile", self.dir / "pid",
                            "--summary", self.dir / "summary").ready()

    def test_has_one_vcpu(self):
        equal(self.vm.sh("nproc"), "1")

    def test_has_its_memory(self):
        total = int(self.vm.sh("awk '/MemTotal/ { print $2 }' /proc/meminfo"))
        assert 80 << 10 < total < 128 << 10, total

    def test_knows_the_time(self):
        assert abs(time.time() - int(self.vm.sh("date +%s"))) < 30

    def test_writes_its_pidfile(self):
        equal((self.dir / "pid").read_text(), f"{self.vm.pid}\n")

    def test_loses_no_output_when_it_powers_off(self):
        """1 MiB and the end at once, to a reader that comes late."""
        checksum = self.vm.make_lines()
        self.vm.send("cat /tmp/lines; poweroff -f\n")
        time.sleep(2)
        equal(self.vm.wait(120), 0)
        equal(hashlib.sha256(self.vm.seen[self.vm.at:]).hexdigest(), checksum)

    def test_removes_its_pidfile(self):
        assert not (self.dir / "pid").exists()

    def test_writes_a_summary(self):
        text = (self.dir / "summary").read_text()
        summary = json.loads(text)
        equal(text.count("\n"), 1)
        wanted = {"name": "small", "end": "power-off", "status": 0, "restarts": 0, "cpus": 1,
                  "memory": 128 << 20}
        equal({key: summary[key] for key in wanted}, wanted)
        assert summary["seconds"] > 0 and "console0" in summary["devices"], summary


class Large(Group):
    """A compressed kernel, two vCPUs and RAM beyond 4 GiB."""

    def start(self):
        if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 5.5 * (1 << 30):
            raise Skip("the host has less than 5.5 GiB of memory")
        self.vm = self.boot("--memory", "5G", "--cpus", 2, "--debug-exit", kernel=MACHINE.kernels[1]).ready()

    def test_has_two_vcpus(self):
        equal(self.vm.sh("nproc"), "2")

    def test_has_ram_where_it_should_be(self):
        ranges = self.vm.sh("grep 'System RAM' /proc/iomem")
        for part in MACHINE.ram:
            assert part in ranges, ranges

    def test_uses_ram_beyond_4_gib(self):
        """The zone Normal is what lies above 4 GiB: files come from there, and stay as they are."""
        free = "awk '/zone +Normal/ { n = 1 } n && /nr_free/ { print $2; exit }' /proc/zoneinfo"
        before = int(self.vm.sh(free))
        self.vm.sh("head -c 16777216 /dev/urandom >/tmp/a; cp /tmp/a /tmp/b")
        after = int(self.vm.sh(free))
        assert (before - after) * 4096 > 24 << 20, (before, after)
        self.vm.sh("cmp /tmp/a /tmp/b")

    def test_ends_with_what_the_guest_wrote(self):
        self.vm.send(f"{MACHINE.debug_exit} 21\n")
        equal(self.vm.wait(), 21 << 1 | 1)


class Many(Group):
    """Four vCPUs, and a panic."""

    short = "pci", "mmio"

    def start(self):
        self.vm = self.boot("--cpus", 4, "--summary", self.dir / "summary").ready()

    def test_has_four_vcpus(self):
        equal(self.vm.sh("nproc"), "4")

    def test_runs_on_each(self):
        for cpu in range(4):
            ran_on = self.vm.sh(f"taskset {1 << cpu:x} awk '{{ print $39 }}' /proc/self/stat")
            equal(ran_on, str(cpu))

    def test_ends_with_101_when_the_kernel_panics(self):
        self.vm.send("echo c >/proc/sysrq-trigger\n")
        equal(self.vm.wait(), 101)
        equal(json.loads((self.dir / "summary").read_text())["end"], "panic")


class EarlyPanic(Group):
    """A panic before there could be a driver that tells it."""

    def start(self):
        self.vm = self.launch("--kernel", self.files / MACHINE.kernel, "--transport", self.transport,
                              "--serial", "stdio", "--cmdline", "quiet root=/dev/nonexistent")
        self.status = self.vm.wait(120)

    def test_ends_with_101(self):
        equal(self.status, 101)
        assert b"Unable to mount root fs" in self.vm.seen


class Arm(Group):
    """What a processor and a kernel of Arm's have of their own, started from an EFI image."""

    short = "pci",
    machines = "aarch64",
    transports = "pci",

    def start(self):
        packed = (self.files / MACHINE.kernels[1]).read_bytes()
        kernel = self.dir / "vmlinuz.efi"
        kernel.write_bytes(struct.pack("<4s4sII8x6s", b"MZ", b"zimg", 64, len(packed), b"gzip")
                           .ljust(64, b"\0") + packed)
        self.vm = self.launch("--kernel", kernel, "--initrd", self.files / "initramfs.cpio",
                              "--cpus", 2, "--timeout", 600,
                              "--cmdline", "quiet root= test=agent").ready()

    def test_has_the_extensions_of_the_host(self):
        for feature in "sve", "paca", "pacg":
            there = f" {feature} " in Path("/proc/cpuinfo").read_text()
            equal((feature, self.vm.ask(f"grep -qw {feature} /proc/cpuinfo")[0] == 0),
                  (feature, there))

    def test_has_a_performance_monitor(self):
        self.vm.sh("grep -q arm-pmu /proc/interrupts")

    def test_has_message_signaled_interrupts(self):
        """By the ITS, or by GICv2m where the host has no GICv3."""
        self.vm.sh("grep -Eq '(ITS-MSI|MSI).*virtio0' /proc/interrupts")

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)


class Driver(Group):
    """A panic that a driver tells, where kernels have it."""

    machines = "x86_64",
    transports = "pci",

    def start(self):
        self.vm = self.boot(words="panic=0").ready()

    def test_ends_with_101_without_a_reset(self):
        self.vm.sh("grep -q pvpanic /proc/modules")
        self.vm.send("echo c >/proc/sysrq-trigger\n")
        equal(self.vm.wait(), 101)


class TripleFault(Group):
    """What only x86 has."""

    machines = "x86_64",
    transports = "pci",

    def start(self):
        self.vm = self.boot("--summary", self.dir / "summary", words="reboot=t").ready()

    def test_ends_with_102(self):
        self.vm.send("reboot -f\n")
        equal(self.vm.wait(), 102)
        equal(json.loads((self.dir / "summary").read_text())["end"], "triple-fault")


class Rng(Group):
    """Entropy from a daemon, at a rate."""

    RATE = 2048

    def serve(self):
        """A daemon that speaks EGD's protocol, and ends after its third answer."""
        self.connections = 0
        while True:
            with self.listener.accept()[0] as peer:
                self.connections += 1
                for _ in range(3) if self.connections == 1 else iter(int, 1):
                    if not (request := peer.recv(2)):
                        break
                    equal(request[0], 2)
                    peer.sendall(os.urandom(request[1]))

    def start(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.dir / "egd"))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()
        self.started = time.monotonic()
        self.vm = self.boot("--rng", f"egd={self.dir}/egd,rate={self.RATE}", "--summary",
                            self.dir / "summary").ready()

    def test_is_the_source_of_hwrng(self):
        assert self.vm.sh("cat /sys/class/misc/hw_random/rng_current").startswith("virtio_rng")

    def test_gives_entropy(self):
        draw = "head -c 512 /dev/hwrng | sha256sum"
        assert self.vm.sh(draw) != self.vm.sh(draw)

    def test_outlives_its_daemon(self):
        equal(self.connections, 2)

    def test_keeps_the_rate(self):
        """Within 5 %. A second's worth may have been saved up."""
        equal(self.vm.sh("head -c 6144 /dev/hwrng | wc -c"), "6144")
        equal(self.vm.power_off(), 0)
        seconds = time.monotonic() - self.started
        rng = json.loads((self.dir / "summary").read_text())["devices"]["rng0"]
        assert 6144 < rng["bytes"] <= self.RATE * (1 + 1.05 * seconds), (rng, seconds)
        assert rng["throttled"] > 0, rng


class Ends(Group):
    """Ends that do not wait for the guest."""

    short = "mmio",

    def start(self):
        self.interrupted = self.boot("--pidfile", self.dir / "pid")
        until((self.dir / "pid").exists)

    def test_ends_with_124_when_the_time_is_up(self):
        late = self.boot(timeout=2)
        equal(late.wait(), 124)

    def test_ends_with_130_at_sigint(self):
        self.interrupted.process.send_signal(signal.SIGINT)
        equal(self.interrupted.wait(), 130)
        assert not (self.dir / "pid").exists()
