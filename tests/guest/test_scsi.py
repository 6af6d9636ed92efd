# SPDX-License-Identifier: Apache-2.0
"""The SCSI controller: many units, what sg3-utils finds, a CD-ROM."""
import os

from guest import Group, equal, run, until

SIZE = 4 << 20
MANY = 256


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
        # Linux gives names in the order in which it gets to units, which is any.
        self.first, self.cdrom, self.large, self.fixed = map(self.name_of, range(4))

    def name_of(self, unit):
        directory = f"/sys/bus/scsi/devices/*:0:0:{unit}/block"
        until(lambda: self.vm.ask(f"[ -b /dev/$(ls {directory}) ]")[0] == 0)
        return self.vm.sh(f"ls {directory}")

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
        assert "lbpme=1" in self.vm.sh(f"sg_readcap --16 /dev/{self.first}")

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

    def test_are_reset(self):
        self.vm.sh(f"sg_reset --device /dev/{self.first}")
        self.vm.sh(f"sg_turs -n 2 /dev/{self.first} || sg_turs -n 2 /dev/{self.first}")

    def test_refuse_writes_when_read_only(self):
        for disk in self.fixed, self.cdrom:
            status, _ = self.vm.ask(f"dd if=/dev/zero of=/dev/{disk} bs=4k count=1 conv=fsync")
            assert status


class Units(Group):
    """As many units as a controller can have."""

    short = ("pci",)

    def start(self):
        last = self.image("last", SIZE)
        options = ["--scsi", "scratch=1M"] * (MANY - 1)
        self.vm = self.boot(*options, "--scsi", f"{last},serial=last").ready()
        self.last = last
        for module in "virtio_scsi", "sd_mod":
            self.vm.sh(f"modprobe {module}")

    def test_attach(self):
        self.vm.sh(f"n=0; until [ $(ls -d /sys/block/sd* | wc -l) = {MANY} ] || [ $n = 300 ]; "
                   "do sleep 0.1; n=$((n + 1)); done")
        equal(self.vm.sh("ls -d /sys/block/sd* | wc -l").strip(), str(MANY))

    def test_work(self):
        name = self.vm.sh("cd /sys/bus/scsi/devices/*:0:0:255/block && ls").strip()
        self.vm.sh(f"dd if=/dev/urandom of=/dev/{name} bs=64k conv=fsync count={SIZE >> 16}")
        equal(self.vm.sha256(f"/dev/{name}"), run("sha256sum", self.last).split()[0])
