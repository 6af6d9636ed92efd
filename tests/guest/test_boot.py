# SPDX-License-Identifier: Apache-2.0
"""The machine: kernels, processors, memory, and the ways in which a guest ends."""
import json

from guest import Group, equal


class Small(Group):
    """vmlinux, a vCPU and 128 MiB."""

    def start(self):
        self.vm = self.boot("--memory", "128M", "--summary", self.dir / "summary", "--pidfile", self.dir / "pid",
                            "--name", "small").ready()

    def test_has_one_vcpu(self):
        equal(self.vm.sh("nproc"), "1")

    def test_has_its_memory(self):
        total = int(self.vm.sh("awk '/MemTotal/ { print $2 }' /proc/meminfo"))
        assert 80 << 10 < total < 128 << 10, total

    def test_writes_its_pidfile(self):
        equal((self.dir / "pid").read_text(), f"{self.vm.pid}\n")

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)

    def test_removes_its_pidfile(self):
        assert not (self.dir / "pid").exists()

    def test_writes_a_summary(self):
        text = (self.dir / "summary").read_text()
        summary = json.loads(text)
        equal(text.count("\n"), 1)
        wanted = {"name": "small", "end": "power-off", "status": 0, "restarts": 0, "cpus": 1, "memory": 128 << 20}
        equal({key: summary[key] for key in wanted}, wanted)
        assert summary["seconds"] > 0 and "console0" in summary["devices"], summary


class Large(Group):
    """bzImage, two vCPUs and RAM on both sides of the hole."""

    def start(self):
        self.vm = self.boot("--memory", "5G", "--cpus", 2, "--debug-exit", kernel="bzImage").ready()

    def test_has_two_vcpus(self):
        equal(self.vm.sh("nproc"), "2")

    def test_has_ram_on_both_sides_of_the_hole(self):
        ranges = self.vm.sh("grep 'System RAM' /proc/iomem")
        assert "-bfffffff : System RAM" in ranges and "100000000-17fffffff : System RAM" in ranges, ranges

    def test_uses_ram_above_the_hole(self):
        """The zone Normal is what lies above 4 GiB: files come from there, and read back as they were."""
        free = "awk '/zone +Normal/ { n = 1 } n && /nr_free_pages/ { print $2; exit }' /proc/zoneinfo"
        before = int(self.vm.sh(free))
        self.vm.sh("mkdir -p /t; mount -t tmpfs t /t; yes microvm | head -c 64M >/t/a")
        after = int(self.vm.sh(free))
        assert (before - after) * 4096 > 60 << 20, (before, after)
        self.vm.sh("cp /t/a /t/b; cmp /t/a /t/b; yes microvm | head -c 64M | cmp - /t/b")

    def test_ends_with_what_the_guest_wrote(self):
        self.vm.send(r"printf '\025' | dd of=/dev/port bs=1 seek=244" + "\n")
        equal(self.vm.wait(), 0o25 << 1 | 1)
