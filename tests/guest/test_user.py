# SPDX-License-Identifier: Apache-2.0
"""The user-mode network: passt, for an ordinary user."""
import functools
import hashlib
import http.server
import os
import re
import shutil
import signal
import socket
import struct
import threading
import urllib.request
from pathlib import Path

from guest import MICROVM, Group, Skip, equal, is_emulated, private_network, run, until

HOST, GATEWAY = "192.0.2.2", "192.0.2.1"
SIZE = 8 << 20
WEB, FORWARDED, ECHO = 8000, 42080, 42007
NOBODY, KVM = 65534, 65533
# What udhcpc runs; busybox has none of its own.
DHCP = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip link set $interface mtu $mtu
ip address add $ip/$mask dev $interface
ip route add default via $router
for server in $dns; do echo nameserver $server; done >/etc/resolv.conf
"""


def name_server():
    """The first one of this machine's, which passt tells the guest of."""
    path = Path("/etc/resolv.conf")
    found = path.exists() and re.search(r"^nameserver\s+([0-9.]+)$", path.read_text(), re.M)
    return found and found[1]


def answer(sock):
    """Whatever name is asked for has the address 192.0.2.77."""
    while True:
        try:
            query, peer = sock.recvfrom(512)
        except OSError:
            return
        question = query[12:query.index(b"\0", 12) + 5]
        is_a = question[-4:-2] == b"\0\1"
        reply = struct.pack(">2sHHHHH", query[:2], 0x8180, 1, is_a, 0, 0) + question
        if is_a:
            reply += b"\xc0\x0c" + struct.pack(">HHIH4s", 1, 1, 60, 4,
                                               socket.inet_aton("192.0.2.77"))
        sock.sendto(reply, peer)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


class User(Group):
    """A host with a default route that leads nowhere, and a guest of an ordinary user."""

    transports = "pci",

    def start(self):
        if not shutil.which("passt"):
            raise Skip("passt is not installed")
        private_network()
        run("ip", "link", "add", "up0", "type", "bridge")
        run("ip", "address", "add", f"{HOST}/24", "dev", "up0")
        run("ip", "link", "set", "up0", "up")
        run("ip", "route", "add", "default", "via", GATEWAY)
        self.serve()
        self.vm = self.boot("--net", f"user,hostfwd=tcp:127.0.0.1:{FORWARDED}-:80,"
                            f"hostfwd=udp::{ECHO}-:7", **self.ordinary()).ready()

    def ordinary(self):
        """What makes a guest that of a user who may use /dev/kvm, and nothing besides."""
        if is_emulated():
            os.chown("/dev/kvm", 0, KVM)
            os.chmod("/dev/kvm", 0o660)
        device = os.stat("/dev/kvm")
        if device.st_mode & 0o60 != 0o60:
            raise Skip("/dev/kvm is of no group")
        program = self.dir / "microvm"
        shutil.copy(MICROVM, program)
        for path in self.dir, self.files:
            path.chmod(0o755)
        return {"program": program,
                "prefix": ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--groups",
                           device.st_gid, "--inh-caps=-all", "--bounding-set=-all")}

    def serve(self):
        """Services on the host's loopback interface, in the network of this thread."""
        path = self.dir / "data"
        path.write_bytes(os.urandom(SIZE))
        self.sum = hashlib.sha256(path.read_bytes()).hexdigest()
        web = http.server.ThreadingHTTPServer(("127.0.0.1", WEB),
                                              functools.partial(Quiet, directory=self.dir))
        threading.Thread(target=web.serve_forever, daemon=True).start()
        self.stack.callback(web.shutdown)
        self.name_server = name_server()
        if self.name_server:
            run("ip", "address", "add", f"{self.name_server}/32", "dev", "lo")
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((self.name_server, 53))
            threading.Thread(target=answer, args=(sock,), daemon=True).start()
            self.stack.callback(sock.close)

    def test_is_the_guest_of_an_ordinary_user(self):
        status = Path(f"/proc/{self.vm.pid}/status").read_text()
        equal(re.search(r"^Uid:\s+(\d+)", status, re.M)[1], str(NOBODY))
        equal(re.search(r"^CapPrm:\s+(\w+)", status, re.M)[1], "0" * 16)

    def test_has_an_address_by_dhcp(self):
        for number, line in enumerate(DHCP.splitlines()):
            self.vm.sh(f"echo '{line}' {'>>' if number else '>'}/tmp/dhcp")
        self.vm.sh("chmod +x /tmp/dhcp; ip link set eth0 up; udhcpc -i eth0 -nqs /tmp/dhcp")
        assert f" {HOST}/24 " in self.vm.sh("ip address show dev eth0")
        assert f"default via {GATEWAY} " in self.vm.sh("ip route")

    def test_has_no_offloads(self):
        features = self.vm.sh("ethtool -k eth0").splitlines()
        for feature in "tx-checksumming", "tcp-segmentation-offload":
            equal([line.split()[1] for line in features if line.startswith(f"{feature}:")], ["off"])

    def test_resolves_names(self):
        if not self.name_server:
            raise Skip("this machine has no name server")
        assert self.name_server in self.vm.sh("cat /etc/resolv.conf")
        assert "192.0.2.77" in self.vm.sh("nslookup somewhere.test")

    def test_reaches_a_service_on_loopback(self):
        self.vm.sh(f"wget -q -O /tmp/data http://{GATEWAY}:{WEB}/data", 120)
        equal(self.vm.sha256("/tmp/data"), self.sum)

    def test_is_reached_by_a_forwarded_port(self):
        self.vm.sh("netstat -ltn | grep -q ':80 ' || httpd -p 80 -h /tmp")
        with urllib.request.urlopen(f"http://127.0.0.1:{FORWARDED}/data", timeout=60) as data:
            equal(hashlib.sha256(data.read()).hexdigest(), self.sum)

    def test_is_reached_by_a_forwarded_udp_port(self):
        self.vm.sh("udp-echo 7 &")
        until(lambda: ":7 " in self.vm.sh("netstat -lnu"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.connect(("127.0.0.1", ECHO))
            for size in 1, 512, 1400, 8000:
                data = os.urandom(size)
                sock.send(data)
                equal(sock.recv(65536), data)

    def test_forwards_nothing_else(self):
        for port in 80, 7, WEB + 1:
            with socket.socket() as sock:
                assert sock.connect_ex((HOST, port)), f"port {port} is open"

    def test_a_second_one_is_told_of_the_busy_port(self):
        second = self.boot("--net", f"user,hostfwd=tcp:127.0.0.1:{FORWARDED}-:80")
        equal(second.wait(), 1)
        assert "a port is in use" in second.errors()

    def its(self, name):
        """The processes of this name in this network."""
        here = os.stat("/proc/thread-self/ns/net").st_ino
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (path.joinpath("comm").read_text().startswith(name) and
                        path.joinpath("ns/net").stat().st_ino == here):
                    yield int(path.name)
            except OSError:
                pass

    def test_has_another_passt_when_one_ends(self):
        falls = int(self.vm.sh("cat /sys/class/net/eth0/carrier_down_count"))
        for times in 1, 2:
            pids = list(self.its("passt"))
            equal(len(pids), 1)
            os.kill(pids[0], signal.SIGKILL)
            until(lambda: self.vm.errors().count("net0: passt is back") == times)
            equal(self.vm.errors().count("net0: passt is gone"), times)
            until(lambda: self.vm.sh("cat /sys/class/net/eth0/carrier") == "1")
            equal(self.vm.sh("cat /sys/class/net/eth0/carrier_down_count"),
                  str(falls + times))
            self.test_is_reached_by_a_forwarded_port()

    def test_leaves_nothing_behind(self):
        equal(len(list(self.its("microvm-redial"))), 1)
        equal(self.vm.power_off(), 0)
        until(lambda: not list(self.its("passt")) and not list(self.its("microvm-redial")))

    def test_is_what_there_is_where_nothing_is_asked_for(self):
        self.third = self.boot("--net", **self.ordinary())
        until(lambda: "net0: it is at the user-mode network, passt" in self.third.errors())

    def test_passt_ends_with_the_guest(self):
        equal(len(list(self.its("passt"))), 1)
        self.third.process.kill()
        until(lambda: not list(self.its("passt")))
