# SPDX-License-Identifier: Apache-2.0
"""Formats, engines and buses of disks under load, losses of power, and the tools of SCSI."""
import hashlib
import itertools
import random
import re
import subprocess
import time

from guest import IMAGES, MICROVM, Failure, Group, equal, run, until

MIB = 1 << 20
FORMATS = "raw", "qcow2"
LEAKS = 3  # what image check says where space is lost, and nothing else


class Storage:
    """What these groups share."""

    transports = ("pci",)

    def place(self):
        """A directory whose file system has direct I/O and holes."""
        run("modprobe", "-aq", "loop", "ext4")
        run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", self.image("place.img", 256 * MIB))
        path = self.dir / "place"
        path.mkdir()
        run("mount", "-o", "loop", self.dir / "place.img", path)
        self.stack.callback(run, "umount", path)
        return path

    def tools(self, *arguments):
        """A guest that has what images/storage packs."""
        initrd = self.dir / "initrd"
        if not initrd.exists():
            with open(initrd, "wb") as file:
                for part in self.files / "initramfs.cpio", IMAGES / "storage.cpio":
                    file.write(part.read_bytes())
        return self.boot("--memory", "512M", *arguments, initrd=initrd).ready()

    def given_back(self, vm, command, name, path):
        """How many bytes the command and a flush take from the file of a disk."""
        before = path.stat().st_blocks
        vm.sh(f"{command} && dd if=/dev/null of=/dev/{name} conv=fsync,notrunc")
        return (before - path.stat().st_blocks) * 512

    def plain(self, path, form):
        """What is in an image, as somebody else reads it."""
        copy = self.dir / "copy"
        run("qemu-img", "convert", "-f", form, "-O", "raw", path, copy)
        return copy


class Verify(Storage, Group):
    """Each format with each engine on each bus, past the page cache and through it."""

    def start(self):
        place, arguments, paths = self.place(), [], []
        kinds = list(itertools.product(FORMATS, ("sync", "uring"), ("", ",direct")))
        for bus, (form, engine, direct) in itertools.product(("disk", "scsi"), kinds):
            path = place / f"{bus}-{engine}{direct.replace(',', '-')}.{form}"
            run(MICROVM, "image", "create", path, 4 * MIB, "--format", form)
            arguments += f"--{bus}", f"{path},format={form},engine={engine}{direct}"
            paths.append(path)
        self.vm = self.tools(*arguments)
        names = [f"vd{letter}" for letter in "abcdefgh"] + self.vm.units(*range(len(kinds)))
        self.disks = dict(zip(names, paths))

    def test_mixed_load_reads_what_it_wrote(self):
        for name, path in self.disks.items():
            status, output = self.vm.ask(
                f"fio --name=job --filename=/dev/{name} --thread --numjobs=4 --size=1m "
                "--offset_increment=1m --rw=randrw --bsrange=4k-32k --ioengine=libaio "
                "--iodepth=8 --direct=1 --verify=crc32c --verify_fatal=1 --output-format=terse",
                180)
            if status:
                raise Failure(f"{path.name}: fio: status {status}: {output}")

    def test_discards_shrink_the_file(self):
        for name, path in self.disks.items():
            found = self.given_back(self.vm, f"blkdiscard -l {2 * MIB} /dev/{name}", name, path)
            if found < MIB:
                raise Failure(f"{path.name}: {found} bytes shorter")

    def test_images_are_sound_and_have_the_data(self):
        sums = {name: self.vm.sh(f"md5sum </dev/{name}").split()[0] for name in self.disks}
        equal(self.vm.power_off(), 0)
        for name, path in self.disks.items():
            form = path.suffix[1:]
            if form == "qcow2":
                run(MICROVM, "image", "check", path)
                run("qemu-img", "check", "-f", form, path)
            data = self.plain(path, form).read_bytes()
            if hashlib.md5(data).hexdigest() != sums[name]:
                raise Failure(f"{path.name}: not what the guest saw")


class Losses(Storage, Group):
    """kill -9 in the middle of fio on ext4: its journal mends it, and what was flushed is there."""

    def start(self):
        self.images = [(bus, form, self.dir / f"{bus}.{form}")
                       for bus in ("disk", "scsi") for form in FORMATS]
        for _, form, path in self.images:
            run(MICROVM, "image", "create", path, 24 * MIB, "--format", form)

    def power_on(self):
        arguments = [f"--{bus}={path},format={form}" for bus, form, path in self.images]
        vm = self.tools(*arguments)
        return vm, ["vda", "vdb"] + vm.units(0, 1)

    def write_until_killed(self, number):
        """Returns how many sectors of its log each disk has flushed."""
        vm, names = self.power_on()
        vm.sh("modprobe -q ext4")
        # Once fio is at work: a record at a time, announced when it is on the disk.
        vm.sh("record() { i=1; until [ -s /$1/load.0.0 ]; do usleep 100000; done; "
              "while printf '%0512d' $i | dd of=/$1/log bs=512 seek=$i conv=fsync,notrunc "
              "2>/dev/null; do echo flushed $1 $i; i=$((i + 1)); done; }")
        for name in names:
            if not number:
                # Its path, or it would be busybox's.
                vm.sh(f"/bin/mke2fs -q -t ext4 /dev/{name}")
            vm.sh(f"mkdir /{name} && mount -t ext4 /dev/{name} /{name} && "
                  f"rm -f /{name}/log /{name}/load.0.0")
        for name in names:
            vm.send(f"fio --name=load --directory=/{name} --size=4m --rw=randwrite --bs=4k "
                    "--fsync=16 --time_based --runtime=600 >/dev/null & "
                    f"record {name} &\n")

        def flushed():
            found = re.findall(rb"^flushed (\w+) (\d+)\r?\n", vm.seen, re.M)
            last = {disk.decode(): int(count) for disk, count in found}
            return [last.get(name, 0) for name in names]
        until(lambda: vm.read(1) and min(flushed()) >= 3, 120)
        time.sleep(random.uniform(0, 3))
        vm.process.kill()
        equal(vm.wait(), -9)
        return flushed()

    def look_at(self, path, form, flushed):
        if form == "qcow2":
            check = subprocess.run([MICROVM, "image", "check", path], capture_output=True,
                                   text=True)
            if check.returncode not in (0, LEAKS):
                raise Failure(f"{path.name}: image check: {check.stdout}{check.stderr}")
        copy, mounted = self.plain(path, form), self.dir / "mounted"
        mounted.mkdir(exist_ok=True)
        run("mount", "-o", "loop", copy, mounted)
        try:
            log = (mounted / "log").read_bytes()
        finally:
            run("umount", mounted)
        run("e2fsck", "-fn", copy)
        for i in range(1, flushed + 1):
            if log[i * 512:][:512] != b"%0512d" % i:
                raise Failure(f"{path.name}: record {i} of {flushed} is not there")

    def test_leave_journals_and_flushed_data(self):
        run("modprobe", "-aq", "loop", "ext4")
        for number in range(20 if self.long else 2):
            flushed = self.write_until_killed(number)
            for (_, form, path), count in zip(self.images, flushed):
                self.look_at(path, form, count)

    def test_leave_space_to_be_given_back(self):
        vm, names = self.power_on()
        for name, (_, _, path) in zip(names, self.images):
            vm.sh(f"mkdir /{name} && mount -t ext4 /dev/{name} /{name} && "
                  f"dd if=/dev/urandom of=/{name}/data bs=1M count=4 conv=fsync")
            found = self.given_back(vm, f"rm /{name}/data && sync && fstrim /{name}", name, path)
            if found < 2 * MIB:
                raise Failure(f"{path.name}: {found} bytes shorter")
        equal(vm.power_off(), 0)


class SgTools(Storage, Group):
    """sg3-utils against what SPC-4 and SBC-3 have them told, and as many units as there can be."""

    # Each command, its exit status and lines of what it prints.
    answers = (
        ("sg_inq -d", 0, ["PQual=0  PDT=0  RMB=0", "version=0x06  [SPC-4]", "Resp_data_format=2",
                          "CmdQue=1", "length=64 (0x40)   Peripheral device type: disk",
                          "Vendor identification: MICROVM", "Product identification: SAMPLE",
                          "Unit serial number: first", "SPC-4 (no version claimed)",
                          "SBC-3 (no version claimed)"]),
        ("sg_vpd", 0, ["Supported VPD pages [sv]", "Unit serial number [sn]",
                       "Device identification [di]", "Block limits (SBC) [bl]",
                       "Block device characteristics (SBC) [bdc]",
                       "Logical block provisioning (SBC) [lbpv]"]),
        ("sg_vpd -p sn", 0, ["Unit serial number: first"]),
        ("sg_vpd -p di", 0, ["Addressed logical unit:",
                             "designator type: T10 vendor identification,  code set: ASCII",
                             "vendor id: MICROVM", "vendor specific: SAMPLE          first",
                             "designator type: NAA,  code set: Binary",
                             "\n      0x3"]),
        ("sg_vpd -p bl", 0, ["Write same non-zero (WSNZ): 1",
                             "Maximum compare and write length: 128 blocks",
                             "Maximum unmap LBA count: -1 [unbounded]",
                             "Maximum unmap block descriptor count: 64",
                             "Optimal unmap granularity: 8 blocks"]),
        ("sg_vpd -p bdc", 0, ["Non-rotating medium (e.g. solid state)"]),
        ("sg_vpd -p lbpv", 0, ["Unmap command supported (LBPU): 1",
                               "Write same (16) with unmap bit supported (LBPWS): 1",
                               "Write same (10) with unmap bit supported (LBPWS10): 1",
                               "Provisioning type: 2 (thin provisioned)"]),
        ("sg_readcap", 0, ["Last LBA=8191 (0x1fff), Number of logical blocks=8192",
                           "Logical block length=512 bytes"]),
        ("sg_readcap --long", 0, ["Protection: prot_en=0", "lbpme=1",
                                  "Last LBA=8191 (0x1fff), Number of logical blocks=8192"]),
        ("sg_turs", 0, []),
        ("sg_verify --lba=0 --count=8192", 0, []),
        # LBA out of range, of which sg3-utils have a status of its own.
        ("sg_verify --lba=8190 --count=16", 22, []),
        ("sg_luns", 0, ["Lun list length = 2048 which imples 256 lun entries",
                        "0000000000000000", "00ff000000000000"]),
        ("sg_reset -d", 0, []),
        # Power on, reset, or bus device reset occurred: told once.
        ("sg_turs", 6, ["Power on, reset, or bus device reset occurred"]),
        ("sg_turs", 0, []),
    )

    def start(self):
        arguments = ["--scsi", "scratch=4M,serial=first,product=SAMPLE"]
        for _ in range(255):
            arguments += "--scsi", "scratch=1M"
        self.vm = self.boot("--memory", "512M", *arguments).ready()
        self.names = self.vm.units(*range(256))
        self.device = f"/dev/{self.names[0]}"

    def test_are_answered(self):
        wrong = []
        for command, wanted, lines in self.answers:
            status, output = self.vm.ask(f"{command} {self.device}")
            missing = [line for line in lines if line not in output]
            if status != wanted or missing:
                wrong.append(f"{command}: status {status}, without {missing}: {output}")
        equal(wrong, [])

    def test_all_units_keep_their_own(self):
        every = " ".join(self.names)
        self.vm.sh(f"for i in {every}; do echo I am $i | dd of=/dev/$i bs=512 conv=sync,fsync "
                   "2>/dev/null || break; done", 180)
        self.vm.sh("echo 3 >/proc/sys/vm/drop_caches")
        equal(self.vm.sh(f"for i in {every}; do head -n 1 /dev/$i; done", 180).splitlines(),
              [f"I am {name}" for name in self.names])
