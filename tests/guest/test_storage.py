# SPDX-License-Identifier: Apache-2.0
"""Formats, engines and buses of disks under load, and losses of power."""
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

    def units(self, vm, count):
        """The names of SCSI disks in the order of their numbers: that of names is by chance."""
        command = "for i in /sys/block/sd*; do echo $(readlink $i/device) ${i##*/}; done"

        def found():
            return dict(line.split() for line in vm.sh(command).splitlines() if ":" in line)
        until(lambda: len(found()) == count, 120)
        return [name for _, name in
                sorted((int(address.split(":")[-1]), name) for address, name in found().items())]

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
        names = [f"vd{letter}" for letter in "abcdefgh"] + self.units(self.vm, len(kinds))
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
        return vm, ["vda", "vdb"] + self.units(vm, 2)

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
