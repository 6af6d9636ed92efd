# SPDX-License-Identifier: Apache-2.0
"""Disks: engines, flushes, and what is there afterwards."""
import hashlib
import os
import subprocess
import time

from guest import MICROVM, Failure, Group, equal, run

SIZE = 4 << 20


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Disks(Group):
    """A disk of each kind."""

    short = "pci", "mmio"

    def start(self):
        self.images = {"vda": self.image("plain", SIZE), "vdb": self.image("sync", SIZE),
                       "vdd": self.image("direct", SIZE)}
        self.read_only = self.image("ro", SIZE)
        self.read_only.write_bytes(os.urandom(SIZE))
        run("modprobe", "-q", "loop")
        loop = run("losetup", "--show", "-f", self.images["vdd"]).strip()
        self.stack.callback(run, "losetup", "-d", loop)
        self.vm = self.boot("--disk", self.images["vda"],
                            "--disk", f"{self.images['vdb']},engine=sync,serial=second",
                            "--disk", f"{self.read_only},ro,serial=twenty-bytes-long-it",
                            "--disk", f"{loop},direct,engine=uring").ready()
        self.sums = {}

    def test_have_serial_numbers(self):
        equal(self.vm.sh("cat /sys/block/vdb/serial; echo; cat /sys/block/vdc/serial"),
              "second\ntwenty-bytes-long-it")

    def test_take_writes_and_flushes(self):
        for disk in self.images:
            self.vm.sh(f"dd if=/dev/urandom of=/dev/{disk} bs=64k conv=fsync count={SIZE >> 16}")
            self.sums[disk] = self.vm.sha256(f"/dev/{disk}")

    def test_refuse_writes_when_read_only(self):
        equal(self.vm.sh("cat /sys/block/vdc/ro"), "1")
        status, _ = self.vm.ask("dd if=/dev/zero of=/dev/vdc bs=4k count=1")
        assert status
        equal(self.vm.sha256("/dev/vdc"), sha256(self.read_only))

    def test_are_locked(self):
        second = self.boot("--disk", self.images["vda"])
        equal(second.wait(), 1)
        assert "locked by another VM" in second.errors()

    def test_are_shared_when_read_only(self):
        second = self.boot("--disk", f"{self.read_only},ro", timeout=1)
        equal(second.wait(), 124)

    def test_keep_everything_over_a_reboot(self):
        self.vm.send("reboot -f\n")
        self.vm.ready()
        equal({disk: self.vm.sha256(f"/dev/{disk}") for disk in self.images}, self.sums)

    def test_keep_everything_over_a_power_off(self):
        equal(self.vm.power_off(), 0)
        for disk, path in self.images.items():
            equal(sha256(path), self.sums[disk])


class Ranges(Group):
    """Discards, zeroes, block sizes, caches, limits."""

    def start(self):
        self.thin = self.image("thin", SIZE)
        self.large = self.image("large", SIZE)
        for path in self.thin, self.large:
            path.write_bytes(os.urandom(SIZE))
        run("modprobe", "-q", "loop")
        # The file system may have no direct I/O.
        loop = run("losetup", "--show", "-f", self.image("none", SIZE)).strip()
        self.stack.callback(run, "losetup", "-d", loop)
        self.vm = self.boot("--disk", self.thin,
                            "--disk", f"{self.large},block-size=4096,engine=sync",
                            "--disk", f"{self.image('through', SIZE)},cache=writethrough",
                            "--disk", f"{loop},cache=none",
                            "--disk", f"{self.image('unsafe', SIZE)},cache=unsafe",
                            "--disk", f"{self.image('slow', SIZE)},iops=50",
                            "--disk", f"{self.image('narrow', SIZE)},bw=512K").ready()

    def test_give_back_what_is_discarded(self):
        before = self.thin.stat().st_blocks
        self.vm.sh("blkdiscard -o 1048576 -l 2097152 /dev/vda")
        equal(before - self.thin.stat().st_blocks, 2097152 // 512)
        equal(self.thin.stat().st_size, SIZE)
        left = self.thin.read_bytes()
        equal(self.vm.sha256("/dev/vda"), hashlib.sha256(left).hexdigest())

    def test_write_zeroes(self):
        kept = self.large.read_bytes()
        for disk, path in ("vda", self.thin), ("vdb", self.large):
            self.vm.sh(f"zeroout /dev/{disk} 65536 1048576")
            equal(path.read_bytes()[65536:65536 + (1 << 20)], bytes(1 << 20))
        equal(self.large.read_bytes()[:65536], kept[:65536])
        equal(self.large.read_bytes()[65536 + (1 << 20):], kept[65536 + (1 << 20):])

    def test_have_the_block_size(self):
        equal(self.vm.sh("cat /sys/block/vda/queue/logical_block_size "
                         "/sys/block/vdb/queue/logical_block_size"), "512\n4096")

    def test_have_the_cache(self):
        equal(self.vm.sh("cat /sys/block/vd[cde]/queue/write_cache"),
              "write through\nwrite back\nwrite back")
        self.vm.sh("echo 'write back' >/sys/block/vdc/cache_type")
        equal(self.vm.sh("cat /sys/block/vdc/cache_type"), "write back")
        for disk in "vdc", "vdd", "vde":
            self.vm.sh(f"dd if=/dev/urandom of=/dev/{disk} bs=64k conv=fsync count={SIZE >> 16}")

    def seconds(self, command):
        """How long it takes, by the guest's clock."""
        words = self.vm.sh(f"cat /proc/uptime; {command} 2>/dev/null; cat /proc/uptime").split()
        return float(words[2]) - float(words[0])

    def test_keep_to_the_limits(self):
        # What a tenth of a second may gather comes at once.
        for command, wanted in (("dd if=/dev/vdf of=/dev/null bs=4k iflag=direct count=155", 3.0),
                                ("dd if=/dev/vdg of=/dev/null bs=32k iflag=direct count=50", 3.0)):
            taken = self.seconds(command)
            assert 0.9 * wanted <= taken <= 1.1 * wanted, f"{command}: {taken} s"


class Qcow2(Group):
    """A qcow2 disk, and one that is based on it, over two boots and a kill."""

    def start(self):
        self.base = self.image("base", 0)
        self.top = self.image("top", 0)
        run(MICROVM, "image", "create", "--force", "--format", "qcow2", self.base, str(SIZE))
        self.vm = self.boot("--disk", f"{self.base},format=qcow2").ready()
        self.vm.sh(f"dd if=/dev/urandom of=/dev/vda bs=64k conv=fsync count={SIZE >> 16}")
        self.sum = self.vm.sha256("/dev/vda")
        equal(self.vm.power_off(), 0)
        run(MICROVM, "image", "create", "--force", "--format", "qcow2", "--backing", self.base.name,
            "--backing-format", "qcow2", self.top, str(SIZE))

    def test_has_what_was_written(self):
        run(MICROVM, "image", "check", self.base)
        self.vm = self.boot("--disk", f"{self.top},format=qcow2,backing=on",
                            "--disk", f"{self.base},format=qcow2,ro").ready()
        equal(self.vm.sha256("/dev/vda"), self.sum)
        equal(self.vm.sha256("/dev/vdb"), self.sum)

    def test_keeps_changes_to_itself(self):
        self.vm.sh("zeroout /dev/vda 65536 1048576")
        self.vm.sh("dd if=/dev/urandom of=/dev/vda bs=4k seek=512 conv=fsync count=64")
        self.vm.sh("blkdiscard -o 3145728 -l 262144 /dev/vda")
        self.sum = self.vm.sha256("/dev/vda")
        self.vm.sh("sync; echo 3 >/proc/sys/vm/drop_caches")
        equal(self.vm.sha256("/dev/vda"), self.sum)

    def test_is_whole_after_a_kill(self):
        self.vm.sh("blockdev --flushbufs /dev/vda || sync")
        self.vm.send("dd if=/dev/urandom of=/dev/vda bs=4k seek=900 count=100 oflag=direct; echo over\n")
        time.sleep(0.3)
        self.vm.process.kill()
        equal(self.vm.wait(), -9)
        # 3: room is lost, nothing else.
        assert subprocess.run([MICROVM, "image", "check", self.top]).returncode in (0, 3)


class Killed(Group):
    """kill -9 while the guest writes: what it flushed is there."""

    def start(self):
        self.disk = self.image("disk", 1 << 20)
        self.vm = self.boot("--disk", self.disk).ready()

    def test_leaves_what_was_flushed(self):
        self.vm.send("for i in $(seq 1 2000); do "
                     "printf '%0512d' $i | dd of=/dev/vda bs=512 seek=$i conv=fsync 2>/dev/null; "
                     "echo flushed $i; done\n")
        self.vm.expect("^flushed 20\r?\n")
        time.sleep(0.5)
        self.vm.process.kill()
        equal(self.vm.wait(), -9)
        last = max(int(line.split()[1]) for line in self.vm.seen.splitlines()
                   if line.startswith(b"flushed ") and line.split()[1:])
        with open(self.disk, "rb") as file:
            for i in range(1, last + 1):
                file.seek(i * 512)
                if file.read(512) != b"%0512d" % i:
                    raise Failure(f"sector {i} of {last} is not there")

    def test_leaves_no_lock(self):
        equal(self.boot("--disk", self.disk, timeout=1).wait(), 124)
