# SPDX-License-Identifier: Apache-2.0
"""A tap in full: both protocols both ways, VLANs, large packets, queues, offloads, and its ends."""
import json
import os
import re
import shutil
import socket
import subprocess

from guest import Group, Skip, equal, private_network, run, until

SIZE = 1 << 20


def addresses(host, wire=0):
    """The host is 1, the guest 2."""
    return f"10.0.{wire}.{host}", f"fd00:{wire}::{host}"


class Wire:
    """What these groups share: a guest at the end of a tap, for its first interface."""

    transports = "pci",

    def host_end(self, name, wire=0):
        """Of a tap that exists already."""
        for address, bits in zip(addresses(1, wire), (24, 64)):
            run("ip", "address", "add", f"{address}/{bits}", "dev", name,
                *(["nodad"] if ":" in address else []))
        run("ip", "link", "set", name, "up")

    def guest_end(self, vm, wire=0):
        vm.sh(f"echo 0 >/proc/sys/net/ipv6/conf/eth{wire}/accept_dad; ip link set eth{wire} up")
        for address, bits in zip(addresses(2, wire), (24, 64)):
            vm.sh(f"ip address add {address}/{bits} dev eth{wire}")


class Tap(Wire, Group):
    """A tap with two queues that was made before, a macvtap that is passed on, and a bridged one."""

    def start(self):
        private_network()
        run("ip", "tuntap", "add", "dev", "wire", "mode", "tap", "vnet_hdr", "multi_queue")
        run("ip", "link", "add", "switch", "type", "bridge")
        run("ip", "address", "add", "10.0.8.1/24", "dev", "switch")
        run("ip", "link", "set", "switch", "up")
        fd = self.macvtap()
        self.host_end("wire")
        self.vm = self.boot("--net", "wire,queues=2,mtu=9000", "--net", f"fd={fd}",
                            "--net", "port,bridge=switch", "--cpus", 2, pass_fds=(fd,)).ready()
        self.guest_end(self.vm)

    def macvtap(self):
        """An open one; the host is at the far end of its wire."""
        run("ip", "link", "add", "far", "type", "veth", "peer", "near")
        run("ip", "link", "set", "near", "up")
        run("ip", "link", "add", "link", "near", "name", "mac", "address", "02:00:00:00:00:77",
            "type", "macvtap", "mode", "bridge")
        run("ip", "link", "set", "mac", "up")
        run("ip", "address", "add", "10.0.9.1/24", "dev", "far")
        run("ip", "link", "set", "far", "up")
        path = f"/dev/tap{socket.if_nametoindex('mac')}"
        until(lambda: os.path.exists(path))
        fd = os.open(path, os.O_RDWR)
        self.stack.callback(os.close, fd)
        return fd

    def test_carries_tcp_both_ways(self):
        self.vm.receive(addresses(2)[1], SIZE)
        self.vm.give_back(addresses(1)[1])

    def test_carries_udp_both_ways(self):
        self.vm.sh("udp-echo 7 &")
        until(lambda: ":7 " in self.vm.sh("netstat -lnu"))
        for guest in addresses(2):
            with socket.socket(socket.AF_INET6 if ":" in guest else socket.AF_INET,
                               socket.SOCK_DGRAM) as sock:
                sock.settimeout(10)
                sock.connect((guest, 7))
                # The last in fragments.
                for size in 1, 1400, 8900, 60000:
                    data = os.urandom(size)
                    sock.send(data)
                    equal(sock.recv(65536), data)

    def test_carries_jumbo_frames(self):
        equal(self.vm.sh("cat /sys/class/net/eth0/mtu"), "9000")
        run("ping", "-c", 2, "-i", 0.2, "-M", "do", "-s", 9000 - 28, addresses(2)[0])

    def test_carries_vlans(self):
        run("ip", "link", "add", "link", "wire", "name", "wire.7", "type", "vlan", "id", 7)
        run("ip", "address", "add", "10.0.7.1/24", "dev", "wire.7")
        run("ip", "link", "set", "wire.7", "up")
        self.vm.sh("modprobe 8021q; vconfig add eth0 7; ip address add 10.0.7.2/24 dev eth0.7;"
                   "ip link set eth0.7 up")
        run("ping", "-c", 2, "-i", 0.2, "-M", "do", "-s", 8000, "10.0.7.2")
        self.vm.sh("vconfig rem eth0.7")

    def test_turns_queues_on_and_off(self):
        for count in 2, 1, 2:
            self.vm.sh(f"ethtool -L eth0 combined {count}")
            shown = self.vm.sh("ethtool -l eth0").split("Current hardware settings:")[1]
            equal([line.split()[1] for line in shown.splitlines() if line.startswith("Combined")],
                  [str(count)])
            run("ping", "-c", 2, "-i", 0.2, addresses(2)[0])

    def test_turns_offloads_off_and_on(self):
        for state in "off", "on":
            self.vm.sh(f"ethtool -K eth0 rx {state} tx {state} tso {state} gso {state} gro {state}")
            self.vm.receive(addresses(2)[0], SIZE)
            self.vm.give_back(addresses(1)[0])

    def test_counts(self):
        counters = dict(line.strip().split(": ")
                        for line in self.vm.sh("ethtool -S eth0").splitlines() if "queue" in line)
        assert int(counters["rx_queue_0_packets"]) > 0, "nothing was received"
        assert "tx_queue_1_packets" in counters, "the second queue is missing"

    def test_has_the_address_of_a_macvtap(self):
        equal(self.vm.sh("cat /sys/class/net/eth1/address"), "02:00:00:00:00:77")

    def test_carries_tcp_through_a_macvtap(self):
        self.vm.sh("ip address add 10.0.9.2/24 dev eth1; ip link set eth1 up")
        self.vm.receive("10.0.9.2", SIZE)
        self.vm.give_back("10.0.9.1")

    def test_is_at_the_bridge(self):
        self.vm.sh("ip address add 10.0.8.2/24 dev eth2; ip link set eth2 up")
        self.vm.sh("ping -c 2 -i 0.2 10.0.8.1")

    def test_a_bridge_that_is_none(self):
        other = self.boot("--net", "other,bridge=far")
        equal(other.wait(), 1)
        assert "is no bridge of this host" in other.errors()

    def test_survives_a_flapping_link(self):
        for _ in range(5):
            run("ip", "link", "set", "wire", "down")
            self.vm.sh(f"ping -c 1 -w 1 {addresses(1)[0]} >/dev/null &")
            run("ip", "link", "set", "wire", "up")
        self.vm.sh(f"ping -c 2 -i 0.2 {addresses(1)[0]}")

    def test_survives_the_end_of_its_tap(self):
        run("ip", "link", "del", "wire")
        until(lambda: self.vm.sh("cat /sys/class/net/eth0/carrier") == "0")
        assert "net0: wire is gone" in self.vm.errors()
        self.vm.sh("ping -c 2 -i 0.2 10.0.8.1")
        equal(self.vm.power_off(), 0)


class Combinations(Wire):
    """Files both ways with each combination of queues, rings and offloads, and the rate of each."""

    transports = "pci",
    wires = "queues=1", "queues=1,packed", "queues=4", "queues=4,packed"

    def start(self):
        if not self.long:
            raise Skip("only with --long")
        if not shutil.which("iperf3"):
            raise Skip("iperf3 is not installed")
        if self.vhost == "on" and not os.path.exists("/dev/vhost-net"):
            raise Skip("there is no /dev/vhost-net")
        private_network()
        networks = []
        for wire, options in enumerate(self.wires):
            run("ip", "tuntap", "add", "dev", f"wire{wire}", "mode", "tap", "vnet_hdr",
                *(["multi_queue"] if "4" in options else []))
            self.host_end(f"wire{wire}", wire)
            networks += ["--net", f"wire{wire},{options},vhost={self.vhost}"]
        self.vm = self.boot(*networks, "--cpus", 2, "--memory", "512M",
                            initrd=self.with_program("/usr/bin/iperf3")).ready()
        for wire in range(len(self.wires)):
            self.guest_end(self.vm, wire)
        self.vm.sh("iperf3 -sD")

    def with_program(self, program):
        """The initramfs with a program of this host's and its libraries."""
        libraries = re.findall(r"/lib\S+", run("ldd", program))
        initrd = self.dir / "initrd"
        shutil.copy(self.files / "initramfs.cpio", initrd)
        files = "\n".join(name.lstrip("/") for name in (program, *libraries))
        with open(initrd, "ab") as file:
            subprocess.run(["cpio", "--quiet", "-oLH", "newc"], input=files.encode(), stdout=file,
                           cwd="/", check=True)
        return initrd

    def rate(self, wire, *options):
        """By iperf3, in Mbit/s."""
        report = json.loads(run("iperf3", "-J", "-c", addresses(2, wire)[0], "-t", 2, *options))
        return report["end"]["sum_received"]["bits_per_second"] / 1e6

    def carry(self, wire):
        queues = 4 if "4" in self.wires[wire] else 1
        if queues > 1:
            self.vm.sh(f"ethtool -L eth{wire} combined {queues}")
        for offloads in "on", "off":
            self.vm.sh(f"ethtool -K eth{wire} " +
                       " ".join(f"{feature} {offloads}" for feature in
                                ("rx", "tx", "tso", "gso", "gro")))
            for host, guest in zip(addresses(1, wire), addresses(2, wire)):
                self.vm.receive(guest, SIZE)
                self.vm.give_back(host)
            streams = "-P", queues
            print(f"{self.wires[wire]}, vhost {self.vhost}, offloads {offloads}: "
                  f"to the guest {self.rate(wire, *streams):.0f} Mbit/s, "
                  f"from it {self.rate(wire, '-R', *streams):.0f} Mbit/s", flush=True)


class TapCombinations(Combinations, Group):
    """Packets moved by us."""

    vhost = "off"

    def test_one_split(self):
        self.carry(0)

    def test_one_packed(self):
        self.carry(1)

    def test_four_split(self):
        self.carry(2)

    def test_four_packed(self):
        self.carry(3)


class VhostCombinations(Combinations, Group):
    """By the host's kernel, which has no packed rings."""

    vhost = "on"
    wires = "queues=1", "queues=4"

    def test_one(self):
        self.carry(0)

    def test_four(self):
        self.carry(1)
