# SPDX-License-Identifier: Apache-2.0
"""The balloon, by the memory that the host has less or more of, and by what the guest says."""
import re
import signal
from pathlib import Path

from guest import Failure, Group, Skip, equal, until
from test_live import Orders

MIB = 1 << 20


class Balloon(Orders, Group):
    """320 MiB, of which the guest uses and gives back parts."""

    backing, options = "", "reporting,hinting,stats=1,deflate-on-oom"

    def start(self):
        if type(self) is not Balloon and not self.long:
            raise Skip("only with --long")
        self.vm = self.obedient("--memory", f"320M{self.backing}", "--balloon", self.options)
        self.vm.sh("modprobe virtio_balloon; mkdir /ram; mount -t tmpfs -o size=90% ram /ram")

    def counter(self, name):
        return self.answer(f"counter balloon0 {name}")

    def resident(self):
        """What the host spends, in MiB: of what is shared, what is in the file."""
        text = Path(f"/proc/{self.vm.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Rss: +(\d+)", text, re.M)[1]) >> 10

    def meminfo(self, name):
        return int(self.vm.sh(f"grep ^{name}: /proc/meminfo").split()[1]) << 10

    def fill(self, name, mib, source="zero"):
        self.vm.sh(f"dd if=/dev/{source} of=/ram/{name} bs=1M count={mib}")

    def set_target(self, mib):
        self.order(f"balloon {mib * MIB}")
        until(lambda: self.counter("actual") == mib * MIB, 120)

    def test_what_is_free_is_reported(self):
        self.fill("free", 100)
        full = self.resident()
        if full < 100:
            raise Failure(f"{full} MiB resident, and the guest uses 100")
        self.vm.sh("rm /ram/free")
        until(lambda: self.resident() < full - 70, 60)
        if self.counter("reported") < 70 * MIB:
            equal(self.counter("reported"), 70 * MIB)

    def test_half_and_back_under_pressure(self):
        # Linux counts a balloon as its own memory if it may have it again.
        total, hidden = self.meminfo("MemTotal"), 0 if "oom" in self.options else 160 * MIB
        self.fill("kept", 20, "urandom")
        checksum = self.vm.sha256("/ram/kept")
        self.fill("used", 100)
        # What is asked for is in use, or will be.
        self.vm.sh("rm /ram/used; (while usleep 100000; do dd if=/dev/zero of=/ram/busy bs=1M "
                   "count=20; done) >/dev/null 2>&1 & busy=$!")
        self.set_target(160)
        equal(self.meminfo("MemTotal"), total - hidden)
        if self.resident() > 160 + 20:
            raise Failure(f"{self.resident()} MiB resident, and the guest has 160")
        if self.counter("released") < 160 * MIB:
            equal(self.counter("released"), 160 * MIB)
        self.set_target(0)
        self.vm.sh("kill $busy; wait $busy; rm /ram/busy; true")
        equal(self.meminfo("MemTotal"), total)
        equal(self.vm.sha256("/ram/kept"), checksum)
        self.fill("all", 120)
        if self.resident() < 150:
            raise Failure(f"{self.resident()} MiB resident, and the guest uses 150")
        self.vm.sh("rm /ram/*")

    def test_statistics_are_the_guests(self):
        equal(self.counter("total_memory"), self.meminfo("MemTotal"))
        # Once a second, without an order, and with one. It may just be on its way.
        before = self.counter("stats_updates")
        until(lambda: self.counter("stats_updates") >= before + 2)
        until(lambda: self.answer("ask") == 0)
        for name in "free_memory", "available_memory", "minor_faults", "disk_caches":
            if not self.counter(name):
                raise Failure(f"{name} is 0")
        self.fill("free", 50)
        until(lambda: abs(self.counter("free_memory") - self.meminfo("MemFree")) < 20 * MIB)

    def test_what_is_free_is_hinted(self):
        self.vm.sh("rm -f /ram/*")
        free = self.meminfo("MemFree")
        self.order("hint")
        until(lambda: self.counter("hint_rounds") == 1)
        if self.counter("hinted") < free // 2:
            equal(self.counter("hinted"), free // 2)
        # It may use them again.
        until(lambda: self.meminfo("MemFree") > free - 20 * MIB)

    def starve(self):
        """Leaves 60 MiB, of which a process wants 100; its exit status, and what was in the balloon before."""
        self.vm.sh("rm -f /ram/*; echo 3 >/proc/sys/vm/drop_caches")
        most = self.meminfo("MemAvailable") // MIB - 60
        self.set_target(most)
        # It gets the addresses, whatever there is, and writes its buffer before it reads anything from it.
        self.vm.sh("echo 1 >/proc/sys/vm/overcommit_memory")
        status, _ = self.vm.ask("dd if=/dev/zero of=/dev/null bs=100M count=1", 120)
        return status, most * MIB

    def test_no_process_is_killed(self):
        status, most = self.starve()
        equal(status, 0)
        if self.counter("actual") > most - 20 * MIB:
            raise Failure(f"{self.counter('actual')} bytes are still in the balloon")
        self.order("balloon 0")
        until(lambda: self.counter("actual") == 0, 120)
        equal(self.vm.power_off(), 0)


class BalloonFirm(Balloon):
    """One that its guest may not take from: what deflate-on-oom changes."""

    options = ""

    def test_a_process_is_killed(self):
        status, most = self.starve()
        equal(status, 128 + signal.SIGKILL)
        equal(self.counter("actual"), most)


class BalloonShared(Balloon):
    """The same with memory that other processes could have, and that Linux does not count."""

    backing, options = ",shared", "reporting"
    test_what_is_free_is_reported = Balloon.test_what_is_free_is_reported
    test_half_and_back_under_pressure = Balloon.test_half_and_back_under_pressure
