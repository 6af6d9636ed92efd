# SPDX-License-Identifier: Apache-2.0
"""vsock: many connections at once, both ways, Linux' own test of it, and microvm vsock."""
import json
import os
import re
import socket
import subprocess
import threading
import time

from guest import (BUILD, IMAGES, MICROVM, Failure, Group, Skip, equal, private_network, run,
                   until)

SOCKLOAD = BUILD / "guest-bin/sockload"
VSOCK_TEST = IMAGES / "vsock-test"
HOST, GUEST = "10.0.0.1", "10.0.0.2"
SECONDS = 300


class Sockets(Group):
    """What both kinds of vsock have to do."""

    transports = ()

    def begin(self, *options):
        private_network()
        self.summary, initrd = self.dir / "summary", self.dir / "initrd"
        self.count, self.size = (1000, 65536) if self.long else (50, 40000)
        with open(initrd, "wb") as file:
            for part in self.files / "initramfs.cpio", VSOCK_TEST / "vsock_test.cpio":
                file.write(part.read_bytes())
        self.vm = self.boot("--vsock", ",".join(["cid=3", *options]), "--summary", self.summary,
                            "--net", "control", initrd=initrd)
        until(lambda: "control" in run("ip", "link"))
        run("ip", "address", "add", f"{HOST}/24", "dev", "control")
        run("ip", "link", "set", "control", "up")
        self.vm.ready().sh(f"ip link set lo up; ip address add {GUEST}/24 dev eth0")

    def vsock_test(self, host, skipped, program="vsock_test", **environment):
        """Linux' test, as host says "server" or "client" here and the other one in the guest, but
        for cases by their numbers. They control each other by TCP."""
        words = ["--control-port=5000", *(f"--skip={number}" for number in skipped)]
        here = [VSOCK_TEST / program, f"--mode={host}", "--peer-cid=3", *words,
                f"--control-host={HOST if host == 'server' else GUEST}"]
        there = " ".join(["vsock_test --peer-cid=2", *words, "--mode="])
        server = f"{there}server --control-host={GUEST} >/tmp/out 2>&1 & server=$!"
        keys = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True,
                "env": {**os.environ, **environment}}
        self.vm.sh("ip link set eth0 up")
        if host == "client":
            self.vm.sh(server)
            until(lambda: ":5000 " in self.vm.sh("netstat -ltn"))
        with subprocess.Popen(here, **keys) as process:
            if host == "server":
                until(lambda: ":5000 " in run("ss", "-ltn") or process.poll() is not None)
                status, said = self.vm.ask(f"{there}client --control-host={HOST} 2>&1", SECONDS)
            output = process.communicate(timeout=SECONDS)[0]
        if host == "client":
            status, said = self.vm.ask("wait $server; status=$?; cat /tmp/out; (exit $status)")
        self.vm.sh("ip link set eth0 down")
        if status or process.returncode:
            raise Failure(f"in the guest: {said}; on the host: {output}")
        results = re.findall(r"^(\d+) - .*\.\.\.(ok|skipped)$", output, re.M)
        equal([int(number) for number, result in results if result == "skipped"], list(skipped))
        assert len(results) > len(skipped), output

    def load(self, host, guest, count, size, slow=0):
        """sockload on both sides, where the host's is slow with some; they have to agree."""
        result = []

        def work():
            done = subprocess.run([SOCKLOAD, *host, str(count), str(size), "1", str(slow)],
                                  capture_output=True, text=True, timeout=SECONDS)
            result.append((done.returncode, done.stdout.split(), done.stderr))
        thread = threading.Thread(target=work, daemon=True)
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
        self.begin(f"path={self.path}", "connections=2048", f"seqpacket={self.path}.seqpacket")

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

    def test_linux_test_in_the_guest_connects(self):
        """But for MSG_EOR (6), and for ENOMEM (9), which is EFAULT of a UNIX socket's."""
        self.vsock_test("server", (6, 9), "vsock_test-unix", VSOCK_PATH=str(self.path))

    def test_linux_test_on_the_host_connects(self):
        """But for MSG_EOR (6), and for SO_RCVLOWAT (10), which UNIX sockets have not."""
        self.vsock_test("client", (6, 10), "vsock_test-unix", VSOCK_PATH=str(self.path))

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
        """Of connections, and of bytes that the guest has sent: who reads slowly gets all of it."""
        data, received = os.urandom(300000), b""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{self.path}_3003")
            listener.listen()
            self.vm.sh("sockload connect vsock:2:3003 & echoes=$!")
            peer = listener.accept()[0]
        with peer:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            self.vm.sh("wait $echoes")
            self.vm.send("poweroff -f\n")
            while part := peer.recv(65536):
                received += part
                time.sleep(0.5)
        assert received == data
        equal(self.vm.wait(), 0)
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

    def test_linux_test_in_the_guest_connects(self):
        self.vsock_test("server", ())

    def test_linux_test_on_the_host_connects(self):
        self.vsock_test("client", ())

    def test_packed_is_not_for_it(self):
        other = self.boot("--vsock", "cid=4,vhost,packed")
        equal(other.wait(), 1)
        assert "leave them out" in other.errors(), other.errors()

    def test_guest_restarts(self):
        """The queues come back from the kernel, and go there again."""
        self.vm.send("reboot -f\n")
        self.vm.ready()
        self.load(["accept", "vsock:2:3001"], "connect vsock:2:3001", 10, self.size)
        equal(self.vm.power_off(), 0)
