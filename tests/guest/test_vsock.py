# SPDX-License-Identifier: Apache-2.0
"""vsock: many connections at once, both ways, and microvm vsock."""
import json
import os
import subprocess
import threading

from guest import BUILD, MICROVM, Failure, Group, Skip, equal

SOCKLOAD = BUILD / "guest-bin/sockload"
SECONDS = 300


class Sockets(Group):
    """What both kinds of vsock have to do."""

    transports = ()

    def begin(self, *options):
        self.summary = self.dir / "summary"
        self.count, self.size = (1000, 65536) if self.long else (50, 40000)
        self.vm = self.boot("--vsock", ",".join(["cid=3", *options]), "--summary", self.summary)
        self.vm.ready()

    def load(self, host, guest, count, size, slow=0):
        """sockload on both sides, where the host's is slow with some; they have to agree."""
        result = []

        def work():
            done = subprocess.run([SOCKLOAD, *host, str(count), str(size), "1", str(slow)],
                                  capture_output=True, text=True, timeout=SECONDS)
            result.append((done.returncode, done.stdout.split(), done.stderr))
        thread = threading.Thread(target=work)
        thread.start()
        try:
            there = self.vm.sh(f"sockload {guest} {count} {size} 2", SECONDS).split()
        finally:
            thread.join()
        status, here, said = result[0]
        if status:
            raise Failure(f"sockload on the host: status {status}: {said}")
        equal(here[1:3], there[4:6])
        equal(here[4:6], there[1:3])
        assert int(here[1]) > 0 and int(there[1]) > 0


class Vsock(Sockets):
    """A guest and programs of the host, at UNIX sockets."""

    transports = short = "pci",

    def start(self):
        self.path = self.dir / "v"
        self.begin(f"path={self.path}", "connections=2048")

    def test_guest_connects_to_host(self):
        self.load(["accept", f"unix:{self.path}_1000"], "connect vsock:2:1000",
                  self.count, self.size)

    def test_host_connects_to_guest(self):
        self.load(["connect", f"via:{self.path}:2000"], "accept vsock:0:2000",
                  self.count, self.size)

    def test_slow_readers_stall_no_others(self):
        """What each sends is more than its socket and buffer hold."""
        count = 6
        self.load(["accept", f"unix:{self.path}_1001"], "connect vsock:2:1001",
                  count, 1 << 20, slow=count // 2)

    def netcat(self, *words, text, status=0):
        done = subprocess.run([MICROVM, "vsock", *map(str, words)], input=text,
                              capture_output=True, timeout=60)
        equal(done.returncode, status)
        return done

    def test_microvm_vsock_to_the_guest(self):
        text = bytes(range(256)) * 1000
        self.vm.sh("sockload accept vsock:0:3000 & sleep 1")
        equal(self.netcat(self.path, 3000, text=text).stdout, text)
        self.vm.sh("wait")

    def test_microvm_vsock_from_the_guest(self):
        text = b"from the host\n" * 1000
        self.vm.sh("sockload connect vsock:2:3001 &")
        equal(self.netcat(self.path, 3001, "--listen", text=text).stdout, text)
        self.vm.sh("wait")

    def test_microvm_vsock_to_nobody(self):
        said = self.netcat(self.path, 3002, text=b"", status=1).stderr
        assert b"nobody in the guest listens" in said, said
        said = self.netcat(self.dir / "none", 1, text=b"", status=1).stderr
        assert b"no such socket" in said, said

    def test_ends_without_a_leak(self):
        """Of connections, and of bytes that the guest has sent."""
        equal(self.vm.power_off(), 0)
        assert not self.path.exists()
        device = json.loads(self.summary.read_text())["devices"]["vsock0"]
        equal(device["opened"], device["closed"])
        equal(device["tx_bytes"], device["delivered_bytes"] + device["lost_bytes"])
        assert device["opened"] > 2 * self.count and device["buffered_bytes"] > 0, device


class VsockVhost(Sockets):
    """The host's own AF_VSOCK, by its kernel."""

    transports = "pci",

    def start(self):
        if not os.path.exists("/dev/vhost-vsock"):
            raise Skip("no /dev/vhost-vsock")
        self.begin("vhost=on")

    def test_cid_is_busy(self):
        other = self.boot("--vsock", "cid=3,vhost")
        equal(other.wait(), 1)
        assert "another VM this cid" in other.errors(), other.errors()

    def test_guest_connects_to_host(self):
        self.load(["accept", "vsock:2:3000"], "connect vsock:2:3000", self.count, self.size)

    def test_host_connects_to_guest(self):
        self.load(["connect", "vsock:3:2000"], "accept vsock:0:2000", self.count, self.size)

    def test_guest_restarts(self):
        """The queues come back from the kernel, and go there again."""
        self.vm.send("reboot -f\n")
        self.vm.ready()
        self.load(["accept", "vsock:2:3001"], "connect vsock:2:3001", 10, self.size)
        equal(self.vm.power_off(), 0)
