# SPDX-License-Identifier: Apache-2.0
"""The SCSI controller: what sg3-utils finds, a CD-ROM, devices of the host's."""
import os
import subprocess
from pathlib import Path

from guest import Group, Skip, equal, run, until

SIZE = 4 << 20

# To which unit sg_raw sends what with which buffers, its exit status, and what it prints, by SPC-4 and SBC-3.
# Statuses are sg3-utils' own, most of them sense keys.
GOOD, NOT_READY, REFUSED, PROTECTED, UNKNOWN, MISCOMPARE, OUT_OF_RANGE = 0, 2, 5, 7, 9, 14, 22
ANSWERS = (
    ("first", "03 00 00 00 12 00", "-r 18", GOOD, "70 00 00 00 00 00 00 0a"),
    ("first", "35 00 00 00 00 00 00 00 00 00", "", GOOD, ""),
    ("first", "91 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00", "", GOOD, ""),
    ("first", "1a 08 08 00 ff 00", "-r 255", GOOD, "17 00 10 00 08 12 04 00"),
    ("fixed", "1a 08 08 00 ff 00", "-r 255", GOOD, "17 00 90 00 08 12 04 00"),
    ("first", "1b 00 00 00 00 00", "", GOOD, ""),
    ("first", "00 00 00 00 00 00", "", NOT_READY, "initializing command required"),
    ("first", "1b 00 00 00 01 00", "", GOOD, ""),
    ("first", "00 00 00 00 00 00", "", GOOD, ""),
    ("first", "28 00 00 00 20 00 00 00 01 00", "-r 512", OUT_OF_RANGE, "block address out of range"),
    ("first", "88 00 80 00 00 00 00 00 00 00 00 00 00 01 00 00", "-r 512", OUT_OF_RANGE, "block address out of range"),
    ("first", "28 20 00 00 00 00 00 00 01 00", "-r 512", REFUSED, "Invalid field in cdb"),
    ("first", "9e 11 00 00 00 00 00 00 00 00 00 00 00 20 00 00", "-r 32", REFUSED, "Invalid field in cdb"),
    ("first", "12 01 77 00 24 00", "-r 36", REFUSED, "Invalid field in cdb"),
    ("first", "42 01 00 00 00 00 00 00 18 00", "-s 24", REFUSED, "Invalid field in cdb"),
    ("first", "93 04 00 00 00 00 00 00 00 00 00 00 00 01 00 00", "-s 512", REFUSED, "Invalid field in cdb"),
    ("first", "42 00 00 00 00 00 00 00 07 00", "-s 7", REFUSED, "Parameter list length error"),
    ("first", "15 00 00 00 04 00", "-s 4", REFUSED, "Invalid field in cdb"),
    ("first", "5e 00 00 00 00 00 00 00 18 00", "-r 24", UNKNOWN, "Invalid command operation code"),
    ("first", "5f 00 00 00 00 00 00 00 18 00", "-s 24", UNKNOWN, "Invalid command operation code"),
    ("first", "ff 00 00 00 00 00 00 00 00 00", "", UNKNOWN, "Invalid command operation code"),
    ("fixed", "2a 00 00 00 00 00 00 00 01 00", "-s 512", PROTECTED, "Write protected"),
    ("fixed", "42 00 00 00 00 00 00 00 18 00", "-s 24", PROTECTED, "Write protected"),
    ("fixed", "93 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00", "-s 512", PROTECTED, "Write protected"),
)


class Scsi(Group):
    """Disks and a CD-ROM on one controller."""

    short = "pci", "mmio"

    def start(self):
        self.data, self.disc = self.image("data", SIZE), self.image("disc", SIZE)
        self.data.write_bytes(os.urandom(SIZE))
        self.disc.write_bytes(os.urandom(SIZE))
        self.vm = self.boot("--scsi", f"{self.data},serial=first,product=DATA,queues=2",
                            "--cdrom", self.disc,
                            "--scsi", "scratch=64M,block-size=4096",
                            "--scsi", f"{self.image('ro', SIZE)},ro").ready()
        for module in "virtio_scsi", "sd_mod", "sr_mod", "sg":
            self.vm.sh(f"modprobe {module}")
        self.first, self.cdrom, self.large, self.fixed = self.vm.units(*range(4))

    def test_have_names_and_sizes(self):
        equal(self.vm.sh(f"cd /sys/block/{self.first}/device; cat vendor model | tr -d ' '").split(),
              ["MICROVM", "DATA"])
        equal(self.vm.sh(f"cd /sys/block; cat {self.first}/size "
                         f"{self.large}/queue/logical_block_size {self.large}/size "
                         f"{self.fixed}/ro {self.cdrom}/size").split(),
              [str(SIZE // 512), "4096", str((64 << 20) // 512), "1", str(SIZE // 512)])
        assert "Unit serial number: first" in self.vm.sh(f"sg_inq -p sn /dev/{self.first}")

    def test_tell_their_capacity(self):
        assert f"Number of logical blocks={SIZE // 512}" in self.vm.sh(f"sg_readcap /dev/{self.first}")
        assert "lbpme=1, lbprz=1" in self.vm.sh(f"sg_readcap --16 /dev/{self.first}")

    def test_read_what_the_host_has(self):
        equal(self.vm.sha256(f"/dev/{self.first}"), run("sha256sum", self.data).split()[0])
        equal(self.vm.sha256(f"/dev/{self.cdrom}"), run("sha256sum", self.disc).split()[0])

    def test_verify_and_fill(self):
        self.vm.sh(f"dd if=/dev/{self.first} of=/tmp/is bs=512 count=16")
        self.vm.sh(f"sg_verify --16 --ndo=8192 --in=/tmp/is --lba=0 --count=16 /dev/{self.first}")
        status, _ = self.vm.ask("sg_verify --ndo=8192 --in=/tmp/is --lba=1 --count=16 "
                                f"/dev/{self.first}")
        equal(status, 14)  # a miscompare
        self.vm.sh("sg_write_same --16 --in=/tmp/is --xferlen=512 --lba=100 --num=50 "
                   f"/dev/{self.first}")
        data = self.data.read_bytes()
        equal(data[100 * 512:150 * 512], data[:512] * 50)
        self.vm.sh(f"sg_unmap --force --lba=2048 --num=2048 /dev/{self.first}")
        self.vm.sh("dd if=/dev/zero of=/tmp/zero bs=4k count=1")
        self.vm.sh(f"sg_verify --16 --ndo=4096 --in=/tmp/zero --lba=2048 --count=8 /dev/{self.first}")

    def test_compare_and_write(self):
        self.vm.sh(f"dd if=/dev/{self.first} of=/tmp/both bs=512 count=1; "
                   "echo new | dd of=/tmp/both bs=512 seek=1 conv=sync")
        command = f"sg_compare_and_write --in=/tmp/both --lba=0 --num=1 --xferlen=1024 /dev/{self.first}"
        self.vm.sh(command)
        equal(self.vm.sh(f"dd if=/dev/{self.first} iflag=direct bs=512 count=1 2>/dev/null | head -n 1"), "new")
        equal(self.vm.ask(command)[0], MISCOMPARE)

    def test_answer_by_the_standards(self):
        nodes = {"first": self.generic(0), "fixed": self.generic(3)}
        wrong = []
        for unit, cdb, buffers, status, line in ANSWERS:
            source = "-i /dev/zero" if "-s" in buffers else ""
            found, said = self.vm.ask(f"sg_raw {buffers} {source} {nodes[unit]} {cdb} 2>&1")
            if found != status or line not in said:
                wrong.append((unit, cdb, found, said))
        equal(wrong, [])

    def generic(self, unit):
        return "/dev/" + self.vm.sh(f"ls /sys/bus/scsi/devices/*:0:0:{unit}/scsi_generic").strip()

    def test_are_reset(self):
        self.vm.sh(f"sg_reset --device /dev/{self.first}")
        self.vm.sh(f"sg_turs -n 2 /dev/{self.first} || sg_turs -n 2 /dev/{self.first}")

    def test_refuse_writes_when_read_only(self):
        for disk in self.fixed, self.cdrom:
            status, _ = self.vm.ask(f"dd if=/dev/zero of=/dev/{disk} bs=4k count=1 conv=fsync")
            assert status


class Passthrough(Group):
    """A disk that the host's kernel makes up, by both of its nodes."""

    transports = ("pci",)

    def start(self):
        load = subprocess.run(["modprobe", "-a", "sd_mod", "sg", "scsi_debug"], capture_output=True)
        made = Path("/sys/bus/pseudo/drivers/scsi_debug")
        if load.returncode or not made.exists():
            raise Skip("the host's kernel has no scsi_debug")
        # A host adapter more has a disk more, of 8 MiB, which all of them share.
        (made / "add_host").write_text("1\n")
        self.stack.callback((made / "add_host").write_text, "-1\n")
        self.options = made / "opts"
        until(lambda: len(self.nodes("block")) > 1 and len(self.nodes("scsi_generic")) > 1)
        self.disk, self.generic = self.nodes("block")[0], self.nodes("scsi_generic")[1]
        self.vm = self.boot("--scsi", f"{self.disk},passthrough",
                            "--scsi", f"{self.generic},passthrough,ro",
                            "--scsi", self.nodes("block")[1]).ready()
        for module in "virtio_scsi", "sd_mod", "sg":
            self.vm.sh(f"modprobe {module}")
        self.unit, self.fixed = self.node_of(0, "block"), self.node_of(1, "scsi_generic")

    @staticmethod
    def nodes(kind):
        devices = Path("/sys/bus/pseudo/drivers/scsi_debug").glob(f"adapter*/host*/target*/*/{kind}/*")
        return [f"/dev/{device.name}" for device in sorted(devices)]

    def node_of(self, unit, kind):
        return f"/dev/{self.vm.units(unit, kind=kind)[0]}"

    def test_is_the_hosts_device(self):
        assert "scsi_debug" in self.vm.sh(f"sg_inq {self.unit}")
        here = Path("/sys/block", Path(self.disk).name)
        there = Path("/sys/block", Path(self.unit).name)
        equal(self.vm.sh(f"sha256sum {there}/device/vpd_pg83").split()[0],
              run("sha256sum", here / "device/vpd_pg83").split()[0])
        size = (here / "size").read_text().strip()
        assert f"Number of logical blocks={size}" in self.vm.sh(f"sg_readcap {self.unit}")
        equal(self.vm.sh(f"sg_luns {self.unit} | grep -c '^ *[0-9]'").strip(), "3")

    def test_reads_and_writes(self):
        self.vm.sh(f"dd if=/dev/urandom of={self.unit} bs=64k count=4 seek=64 conv=fsync")
        self.vm.sh(f"dd if={self.unit} of=/tmp/is bs=64k count=4 skip=64 iflag=direct")
        whole = subprocess.run(["dd", f"if={self.disk}", "bs=64k", "count=4", "skip=64", "iflag=direct"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
        path = self.dir / "whole"
        path.write_bytes(whole)
        equal(self.vm.sha256("/tmp/is"), run("sha256sum", path).split()[0])

    def test_refuses_what_is_not_listed(self):
        for command in "04 00 00 00 00 00", "3b 00 00 00 00 00 00 00 00 00", "5e 00 00 00 00 00 00 00 00 00":
            _, said = self.vm.ask(f"sg_raw {self.unit} {command} 2>&1")
            assert "Invalid command operation code" in said, said

    def test_tells_medium_errors(self):
        self.options.write_text("2\n")
        status, said = self.vm.ask(f"sg_raw -r 512 {self.unit} 28 00 00 00 12 34 00 00 01 00 2>&1")
        self.options.write_text("0\n")
        assert status and "Medium Error" in said and "Unrecovered read error" in said, said

    def test_is_read_only_on_request(self):
        equal(self.vm.sh("cat /sys/bus/scsi/devices/*:0:0:1/block/*/ro").strip(), "1")
        _, said = self.vm.ask(f"dd if=/dev/zero bs=512 count=1 2>/dev/null | "
                              f"sg_raw -s 512 {self.fixed} 2a 00 00 00 00 00 00 00 01 00 2>&1")
        assert "Write protected" in said, said

    def test_is_not_known_to_read_zeroes(self):
        """An emulated unit of a device, which may do with discarded blocks what it likes."""
        assert "lbpme=1, lbprz=0" in self.vm.sh(f"sg_readcap --16 {self.node_of(2, 'block')}")

    def test_is_reset(self):
        self.vm.sh(f"sg_reset --device {self.fixed}")
        equal(self.vm.ask(f"sg_turs {self.fixed}")[0], 6)  # a unit attention
        self.vm.sh(f"sg_turs {self.fixed}")
