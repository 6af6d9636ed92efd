# SPDX-License-Identifier: Apache-2.0
"""vhost-user: DPDK's testpmd between a guest's interfaces and wires of the host."""
import os
import socket
import subprocess

from guest import IMAGES, Group, Skip, equal, private_network, run, until

TESTPMD = IMAGES / "dpdk" / "testpmd"
SIZE = 1 << 19
# One is listened for, the other comes to the guest's socket.
WIRES = 0, 1


def address(wire, host):
    """The host is 1, the guest 2."""
    return f"10.0.{wire}.{host}"


class Remote(Group):
    """A guest with two interfaces of two queues each, split and packed, in one testpmd."""

    transports = "pci",

    def start(self):
        if not TESTPMD.exists():
            raise Skip("there is no testpmd: make dpdk")
        private_network()
        for wire in WIRES:
            run("ip", "link", "add", f"far{wire}", "type", "veth", "peer", f"near{wire}")
            for end in f"near{wire}", f"far{wire}":
                # What goes through a packet socket has its checksum.
                run("ethtool", "-K", end, "tx", "off", "gso", "off", "gro", "off")
                run("ip", "link", "set", end, "up")
            run("ip", "address", "add", f"{address(wire, 1)}/24", "dev", f"far{wire}")
        self.serve()
        self.vm = self.boot("--net", f"vhost-user={self.dir}/0,queues=2",
                            "--net", f"vhost-user-server={self.dir}/1,queues=2,packed",
                            "--memory", "512M,shared", "--cpus", 2).ready()
        for wire in WIRES:
            self.vm.sh(f"ip address add {address(wire, 2)}/24 dev eth{wire};"
                       f"ip link set eth{wire} up; ethtool -L eth{wire} combined 2")

    def serve(self):
        """Starts testpmd, which forwards packets between each interface and its wire."""
        devices = [word for wire in WIRES for word in (
            "--vdev", f"net_vhost{wire},iface={self.dir}/{wire},queues=2" + ",client=1" * wire,
            "--vdev", f"net_af_packet{wire},iface=near{wire},qpairs=2")]
        # It leaves a socket alone that is there already.
        (self.dir / "0").unlink(missing_ok=True)
        self.testpmd = subprocess.Popen(
            [TESTPMD, "-l", "0,1", "--no-huge", "--no-shconf", "-m", "128", "--no-pci",
             "--no-telemetry", *devices, "--", "--forward-mode=io", "--auto-start",
             "--no-flush-rx", "--no-lsc-interrupt", "--total-num-mbufs=8192", "--rxq=2", "--txq=2",
             "--stats-period=10"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "XDG_RUNTIME_DIR": str(self.dir)})
        self.stack.callback(self.end)
        until(lambda: (self.dir / "0").exists() or self.testpmd.poll() is not None)
        equal(self.testpmd.poll(), None)

    def end(self):
        self.testpmd.kill()
        self.testpmd.wait()

    def await_carriers(self, state):
        for wire in WIRES:
            until(lambda: self.vm.sh(f"cat /sys/class/net/eth{wire}/carrier") == state)

    def carry(self, **keys):
        for wire in WIRES:
            self.vm.receive(address(wire, 2), SIZE, **keys)
            self.vm.give_back(address(wire, 1))

    def test_carries_tcp_both_ways(self):
        self.carry()

    def test_uses_both_queues(self):
        self.vm.sh("udp-echo 7 &")
        until(lambda: ":7 " in self.vm.sh("netstat -lnu"))
        for wire in WIRES:
            for _ in range(16):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.settimeout(10)
                    sock.connect((address(wire, 2), 7))
                    data = os.urandom(1400)
                    sock.send(data)
                    equal(sock.recv(2048), data)
            counters = dict(line.strip().split(": ") for line in
                            self.vm.sh(f"ethtool -S eth{wire}").splitlines() if "queue" in line)
            for queue in range(2):
                assert int(counters[f"rx_queue_{queue}_packets"]) > 0, f"queue {queue} is idle"

    def test_survives_the_end_of_testpmd(self):
        self.end()
        self.await_carriers("0")
        # What is sent meanwhile is lost, and no more.
        self.vm.sh(f"ping -c 1 -w 1 {address(0, 1)} >/dev/null; true")
        self.serve()
        self.await_carriers("1")
        self.carry()
        for what in "gone", "back":
            assert f"net1: the program behind 1 is {what}" in self.vm.errors()

    def test_survives_it_under_load(self):
        def restart():
            self.end()
            self.serve()
        self.carry(meanwhile=restart)
        equal(self.vm.power_off(), 0)
