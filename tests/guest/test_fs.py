# SPDX-License-Identifier: Apache-2.0
"""Shared directories."""
import fcntl
import hashlib
import json
import os
import stat
import struct
from pathlib import Path

from guest import IMAGES, Failure, Group, Skip, equal, until


class Share(Group):
    """A directory, as the guest and as the host see it."""

    short = ("pci",)

    def start(self):
        self.shared = self.dir / "shared"
        self.shared.mkdir()
        self.shared.chmod(0o755)
        self.many = self.shared / "many"
        self.many.mkdir()
        (self.shared / "hello").write_text("from the host\n")
        (self.dir / "secret").write_text("not for the guest\n")
        (self.shared / "way-out").symlink_to("../secret")
        self.vm = self.boot("--fs", f"{self.shared},tag=shared", "--fs", "/,tag=host,ro").ready()
        self.vm.sh("mkdir -p /mnt && mount -t virtiofs shared /mnt")

    def test_reads_what_the_host_wrote(self):
        equal(self.vm.sh("cat /mnt/hello"), "from the host")

    def test_writes_what_the_host_reads(self):
        self.vm.sh("dd if=/dev/urandom of=/mnt/data bs=1M count=3 conv=fsync")
        equal(hashlib.sha256((self.shared / "data").read_bytes()).hexdigest(),
              self.vm.sha256("/mnt/data"))

    def test_makes_and_moves(self):
        self.vm.sh("cd /mnt && mkdir -p a/b/c && echo 1 >a/b/c/f && mv a/b d && ln d/c/f g && "
                   "ln -s g h && chmod 640 g && chown 1000:1001 g && touch -d @1000000 g && "
                   "mkfifo p")
        found = os.lstat(self.shared / "g")
        equal((stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime,
               found.st_nlink), (0o640, 1000, 1001, 1000000, 2))
        equal(os.readlink(self.shared / "h"), "g")
        equal(self.vm.sh("cat /mnt/h; stat -c '%a %u %g %Y %h' /mnt/g"),
              "1\n640 1000 1001 1000000 2")
        if not stat.S_ISFIFO(os.lstat(self.shared / "p").st_mode):
            raise Failure("no fifo")

    def test_keeps_open_what_was_removed(self):
        equal(self.vm.sh("cd /mnt && exec 5<>gone && rm gone && echo kept >&5 && "
                         "cat /proc/self/fd/5 && stat -L -c '%s %h' /proc/self/fd/5; exec 5>&-"),
              "kept\n5 0")

    def test_sees_what_the_host_does(self):
        (self.shared / "hello").rename(self.shared / "moved")
        equal(self.vm.sh("sleep 2; ls /mnt/hello 2>/dev/null; cat /mnt/moved"), "from the host")

    def test_leaves_it_by_no_link(self):
        equal(self.vm.ask("cat /mnt/way-out")[0], 1)

    def test_makes_no_devices(self):
        status, output = self.vm.ask("mknod /mnt/null c 1 3")
        if not status or "not permitted" not in output:
            raise Failure(output)

    def test_enters_nothing_of_the_kernels(self):
        self.vm.sh("mkdir /host && mount -t virtiofs host /host")
        equal(self.vm.sh(f"cat /host{self.dir}/secret; stat -c %F /host/proc"),
              "not for the guest\ndirectory")
        for command in ("ls /host/proc", "cat /host/proc/version", "ls /host/sys"):
            equal(self.vm.ask(f"{command} 2>&1 | grep -c 'Permission denied'")[1], "1")
        status, output = self.vm.ask(f"chmod 777 /host{self.dir}/secret")
        if not status or "Read-only" not in output:
            raise Failure(output)
        self.vm.sh("umount -l /host")

    def test_lists_what_fills_many_replies(self):
        for i in range(3000):
            (self.many / f"a name that is not short {i}").touch()
        equal(self.vm.sh("ls /mnt/many | wc -l; ls -l /mnt/many | wc -l", 120), "3000\n3001")
        self.vm.sh("rm -r /mnt/many/*1?? /mnt/many/*2??", 300)
        equal(len(list(self.many.iterdir())), 3000 - 2 * 300)

    def test_ends(self):
        self.vm.sh("cd / && umount /mnt && mount -t virtiofs shared /mnt && umount /mnt")
        equal(self.vm.power_off(), 0)


class Locks(Group):
    """Locks that host and guest have of each other, and several threads."""

    transports = short = ("pci",)
    kinds = {"posix": fcntl.lockf, "flock": fcntl.flock}

    def start(self):
        self.shared = self.dir / "shared"
        self.shared.mkdir()
        self.summary = self.dir / "summary"
        self.file = open(self.shared / "file", "w+b")
        self.vm = self.boot("--fs", f"{self.shared},tag=shared,locks,threads=4",
                            "--summary", self.summary).ready()
        self.vm.sh("mkdir -p /mnt && mount -t virtiofs shared /mnt")

    def locks(self, kind):
        """Whether the host can have the lock; it gives it back."""
        try:
            self.kinds[kind](self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.kinds[kind](self.file, fcntl.LOCK_UN)
        return True

    def test_the_host_has_it(self):
        for kind, lock in self.kinds.items():
            lock(self.file, fcntl.LOCK_EX)
            equal(self.vm.ask(f"lock {kind} try /mnt/file 0 0 true")[0], 3)
            lock(self.file, fcntl.LOCK_UN)
            equal(self.vm.ask(f"lock {kind} try /mnt/file 0 0 true")[0], 0)
        fcntl.lockf(self.file, fcntl.LOCK_EX, 10)
        equal(self.vm.ask("lock posix try /mnt/file 9 1 true")[0], 3)
        equal(self.vm.ask("lock posix try /mnt/file 10 0 true")[0], 0)
        fcntl.lockf(self.file, fcntl.LOCK_UN)

    def test_the_guest_has_it(self):
        held = self.shared / "held"
        for kind in self.kinds:
            self.vm.sh(f"lock {kind} try /mnt/file 0 0 'touch /mnt/held; "
                       "while [ -e /mnt/held ]; do sleep 0.1; done' &")
            until(held.exists)
            equal(self.locks(kind), False)
            equal(self.vm.ask(f"lock {kind} try /mnt/file 0 0 true")[0], 3)
            held.unlink()
            until(lambda k=kind: self.locks(k))

    def test_the_guest_waits(self):
        for kind, lock in self.kinds.items():
            got = self.shared / f"got-{kind}"
            lock(self.file, fcntl.LOCK_EX)
            self.vm.sh(f"lock {kind} wait /mnt/file 0 0 'touch /mnt/{got.name}' & sleep 1")
            equal(got.exists(), False)
            lock(self.file, fcntl.LOCK_UN)
            until(got.exists)

    def test_a_process_that_was_killed_leaves_no_lock(self):
        fcntl.lockf(self.file, fcntl.LOCK_EX)
        self.vm.sh("lock posix wait /mnt/file 0 0 'touch /mnt/never' & sleep 1; kill $!")
        fcntl.lockf(self.file, fcntl.LOCK_UN)
        self.vm.sh("wait")
        equal((self.shared / "never").exists(), False)
        until(lambda: self.locks("posix"))

    def test_writes_at_the_same_time(self):
        self.vm.sh("mkdir /mnt/names && cd /mnt/names && touch $(seq 300)", 120)
        names = self.vm.sh(
            "cd /mnt; for i in 1 2 3 4; do"
            " dd if=/dev/urandom of=data$i bs=256k count=16 conv=fsync 2>/dev/null & done;"
            " echo 3 >/proc/sys/vm/drop_caches; ls -l names | wc -l; wait", 300)
        equal(names, "301")
        for i in range(1, 5):
            equal(hashlib.sha256((self.shared / f"data{i}").read_bytes()).hexdigest(),
                  self.vm.sha256(f"/mnt/data{i}"))

    def test_ends(self):
        self.vm.sh("cd / && umount /mnt")
        equal(self.vm.power_off(), 0)
        counters = json.loads(self.summary.read_text())["devices"]["fs0"]
        equal((counters["helped"] >= 64, counters["lock_waits"] >= 3), (True, True))


def acl(*entries):
    """An ACL as an extended attribute: version 2, then tag, permissions and owner of each entry."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, allowed, owner & 0xffffffff)
                                           for tag, allowed, owner in entries)


# The owner and the group read and write, others nothing, user 71000 of the host reads.
READER = acl((1, 6, -1), (2, 4, 71000), (4, 6, -1), (0x10, 6, -1), (0x20, 0, -1))


class ShareWithOwners(Group):
    """Users of the guest, who are others on the host, and what ACLs let them do."""

    short = ("pci",)

    def start(self):
        self.shared = self.dir / "shared"
        self.shared.mkdir()
        self.shared.chmod(0o777)
        self.vm = self.boot("--fs", f"{self.shared},tag=shared,acl,uidmap=1000:71000:10").ready()
        self.vm.sh("mkdir -p /mnt /etc && mount -t virtiofs shared /mnt")
        for uid in 1000, 1001:
            self.vm.sh(f"echo u{uid}:x:{uid}:{uid}::/:/bin/sh >>/etc/passwd; "
                       f"echo g{uid}:x:{uid}: >>/etc/group")

    def ask_as(self, uid, command):
        (self.shared / "command").write_text(command)
        return self.vm.ask("cd /mnt && start-stop-daemon -S -p /none "
                           f"-c {uid}:{uid} -x /bin/busybox -- sh /mnt/command")

    def test_makes_what_is_theirs(self):
        there = self.shared / "group's"
        there.mkdir()
        os.chown(there, 0, 77)
        there.chmod(0o2777)
        equal(self.ask_as(1000, "mkdir \"group's/dir\" && ln -s x link && mkfifo fifo && "
                                "umask 027 && touch file \"group's/file\"")[0], 0)
        owners = {}
        for path in ("group's/dir", "group's/file", "file", "link", "fifo"):
            found = os.lstat(self.shared / path)
            owners[path] = (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode) & 0o2750)
        equal(owners, {"group's/dir": (71000, 77, 0o2750), "group's/file": (71000, 77, 0o640),
                       "file": (71000, 1000, 0o640), "link": (71000, 1000, 0o750),
                       "fifo": (71000, 1000, 0o640)})

    def test_writes_take_privileges(self):
        program = self.shared / "program"
        program.write_text("")
        os.chown(program, 0, 77)
        program.chmod(0o6777)
        self.vm.sh("echo >>/mnt/program")
        equal(stat.S_IMODE(program.stat().st_mode), 0o6777)
        equal(self.ask_as(1000, "echo >>program")[0], 0)
        equal(stat.S_IMODE(program.stat().st_mode), 0o777)

    def test_acl_lets_in(self):
        secret = self.shared / "secret"
        secret.write_text("for one\n")
        os.setxattr(secret, "system.posix_acl_access", READER)
        equal(self.ask_as(1000, "cat secret"), (0, "for one"))
        equal(self.ask_as(1001, "cat secret")[0], 1)

    def test_acl_is_inherited(self):
        there = self.shared / "inherits"
        there.mkdir()
        os.setxattr(there, "system.posix_acl_default", READER)
        self.vm.sh("umask 077 && touch /mnt/inherits/file && touch /mnt/bare")
        equal(os.getxattr(there / "file", "system.posix_acl_access"), READER)
        equal(stat.S_IMODE((there / "file").stat().st_mode), 0o660)
        equal(stat.S_IMODE((self.shared / "bare").stat().st_mode), 0o600)


class Dax(Group):
    """A directory whose files the guest maps, in a window that is smaller than they are."""

    def start(self):
        if "CONFIG_FUSE_DAX=y" not in (IMAGES / "guest/config").read_text():
            raise Skip("the guest's kernel has no CONFIG_FUSE_DAX, as Debian's for Arm")
        self.shared = self.dir / "shared"
        self.shared.mkdir()
        self.data = self.shared / "data"
        self.data.write_bytes(os.urandom((5 << 20) + 123))
        self.small = self.shared / "small"
        self.small.write_text("little\n")
        self.disk = self.image("disk.img", 1 << 20)
        self.vm = self.boot("--fs", f"{self.shared},tag=shared,cache=always,dax=16M",
                            "--disk", self.disk).ready()
        self.vm.sh("mkdir -p /mnt && mount -t virtiofs -o dax=always shared /mnt")

    def is_mapped(self, path):
        """Whether microvm has the file in its address space."""
        maps = Path(f"/proc/{self.vm.pid}/maps").read_text(encoding="utf-8")
        return any(line.endswith("/" + path.name) for line in maps.splitlines())

    def test_reads_what_is_mapped(self):
        wanted = hashlib.sha256(self.data.read_bytes()).hexdigest()
        equal(self.vm.sh(f"mapped /mnt/data 0 {self.data.stat().st_size} | sha256sum").split()[0],
              wanted)
        equal(self.vm.sha256("/mnt/data"), wanted)
        equal(self.vm.sh("mapped /mnt/small 0 7"), "little")
        equal([self.is_mapped(path) for path in (self.data, self.small)], [True, True])

    def test_writes_what_the_host_has_at_once(self):
        self.vm.sh("head -c 3000000 /dev/urandom >/tmp/new && truncate -s 3000000 /mnt/new && "
                   "mapped /mnt/new 0 3000000 in </tmp/new")
        equal(hashlib.sha256((self.shared / "new").read_bytes()).hexdigest(),
              self.vm.sha256("/tmp/new"))

    def test_sees_what_the_host_writes_at_once(self):
        equal(self.vm.sh("mapped /mnt/small 0 7"), "little")
        with open(self.small, "r+", encoding="ascii") as file:
            file.write("big")
        equal(self.vm.sh("mapped /mnt/small 0 7"), "bigtle")

    def test_has_devices_use_what_is_mapped(self):
        self.vm.sh("mapped /mnt/data 4096 262144 /dev/vda")
        equal(self.disk.read_bytes()[:262144], self.data.read_bytes()[4096:4096 + 262144])

    def test_outlives_the_end_of_a_file(self):
        self.vm.sh("mapped /mnt/data 0 8192 >/dev/null; mapped /mnt/small 0 7")
        before = self.data.read_bytes()
        os.truncate(self.data, 4096)
        equal(self.vm.sh("mapped /mnt/data 4096 8192 | sha256sum").split()[0],
              hashlib.sha256(bytes(8192)).hexdigest())
        # So does a device that looks there.
        self.vm.sh("mapped /mnt/data 65536 65536 /dev/vda")
        equal(self.disk.read_bytes()[:65536], bytes(65536))
        self.data.write_bytes(before)
        with open(self.small, "a", encoding="ascii") as file:
            file.write("and more\n")
        equal(self.vm.sh("touch /mnt/request && mapped /mnt/data 4096 8192 | sha256sum").split()[0],
              hashlib.sha256(before[4096:4096 + 8192]).hexdigest())

    def test_maps_more_than_the_window(self):
        # The last: see docs/testing.md.
        self.vm.sh("head -c 21000000 /dev/urandom >/tmp/large && truncate -s 21000000 /mnt/large && "
                   "mapped /mnt/large 0 21000000 in </tmp/large", 120)
        wanted = self.vm.sha256("/tmp/large")
        equal(hashlib.sha256((self.shared / "large").read_bytes()).hexdigest(), wanted)
        equal(self.vm.sh("mapped /mnt/large 0 21000000 | sha256sum").split()[0], wanted)

    def test_ends(self):
        self.vm.sh("umount /mnt")
        equal(self.is_mapped(self.data), False)
        # Each file says for itself whether it is mapped.
        self.vm.sh("mount -t virtiofs shared /mnt && cat /mnt/data /mnt/small >/dev/null")
        equal([self.is_mapped(path) for path in (self.data, self.small)], [True, False])
        equal(self.vm.power_off(), 0)
