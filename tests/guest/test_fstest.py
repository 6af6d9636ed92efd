# SPDX-License-Identifier: Apache-2.0
"""Shared directories against the file system that they are on: the same program in the guest and on the host, in a
directory of its own each, has to say the same and to leave the same."""
import random
import shutil

from guest import BUILD, Failure, Group, Skip, equal, run

PROGRAM = BUILD / "guest-fs/fstest"
CACHES = {"auto": "", "never": ",cache=never", "always": ",cache=always,writeback"}
# Where a guest has to differ, and why.
DIFFERENT = {
    # Files opened for direct I/O have none before Linux 6.6.
    ("never", "no shared mappings"): ("mappings_are_the_file", "mappings_end_with_the_file", "mappings_of_two"),
}


def say_the_same(cache, guest, host):
    """Compares verdicts line by line."""
    guest, host = [dict(line.split(": ", 1) for line in text.splitlines()) for text in (guest, host)]
    wrong = [f"{case}: {guest.get(case)!r}, on the host {verdict!r}" for case, verdict in host.items()
             if guest.get(case) != verdict and case not in DIFFERENT.get((cache, guest.get(case)), ())]
    if wrong or not host:
        raise Failure("; ".join(wrong) or "no cases")


class Fstest(Group):
    """Three directories with a cache each, on a file system with all that the cases want."""

    transports = "pci",

    def start(self):
        # Others than ext4 may have no extended attributes, or none of users.
        image = self.image("ext4", 1 << 30)
        run("mkfs.ext4", "-q", image)
        self.fs = self.mount(image)
        options = []
        for cache, words in CACHES.items():
            (self.fs / cache).mkdir()
            options += "--fs", f"{self.fs / cache},tag={cache}{words}"
        (self.fs / "host").mkdir()
        self.vm = self.boot(*options, "--memory", "512M", timeout=3000).ready()
        for cache in CACHES:
            shutil.copy(PROGRAM, self.fs / cache)
            self.vm.sh(f"mkdir -p /mnt/{cache} && mount -t virtiofs {cache} /mnt/{cache}")

    def say(self, cache, command, *words):
        """What the program prints in the guest and on the host, each in a new directory; and its name."""
        name = f"{command}-{cache}-{words[0]}"
        for parent in cache, "host":
            (self.fs / parent / name).mkdir()
        words = [str(word) for word in words]
        guest = self.vm.sh(f"cd /mnt/{cache} && ./fstest {command} {name} {' '.join(words)} >/tmp/log; "
                           "cd /; cat /tmp/log", 900)
        return guest, run(PROGRAM, command, self.fs / "host" / name, *words), name

    def cases(self, cache, *users):
        if self.long:
            self.vm.sh("export MANY=10000")
        for user in users:
            guest, host, _ = self.say(cache, "cases", user)
            say_the_same(cache, guest, host)

    def only_long(self):
        if not self.long:
            raise Skip("takes minutes: --long")

    def test_cases(self):
        self.cases("auto", 0)

    def test_cases_of_a_user(self):
        self.only_long()
        self.cases("auto", 1000)

    def test_cases_without_cache(self):
        self.only_long()
        self.cases("never", 0, 1000)

    def test_cases_with_writeback(self):
        self.only_long()
        self.cases("always", 0, 1000)

    def random(self, cache, count):
        """Operations that follow from a seed: what each returns, and what is left, as the host sees it."""
        seed = random.randrange(1 << 32)
        guest, host, name = self.say(cache, "random", seed, count)
        for found, wanted in zip(guest.splitlines(), host.splitlines()):
            if found != wanted:
                raise Failure(f"cache {cache}, seed {seed}: {found!r}, on the host {wanted!r}")
        self.vm.sh("sync")
        trees = [run(PROGRAM, "tree", self.fs / parent / name).splitlines()
                 for parent in (cache, "host")]
        if trees[0] != trees[1] or not trees[0]:
            raise Failure(f"cache {cache}, seed {seed}: {set(trees[0]) ^ set(trees[1])}")

    def test_random_operations(self):
        for cache in CACHES:
            self.random(cache, 20000 if self.long else 250)

    def test_sees_what_the_host_writes(self):
        for cache, seconds, seen in ("never", 0, "another"), ("auto", 2, "another"), ("always", 0, "one"):
            file = self.fs / cache / "file"
            file.write_text("one\n")
            equal(self.vm.sh(f"cat /mnt/{cache}/file"), "one")
            file.write_text("another\n")
            equal(self.vm.sh(f"sleep {seconds}; cat /mnt/{cache}/file"), seen)

    def test_ends(self):
        equal(self.vm.power_off(), 0)
