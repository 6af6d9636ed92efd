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


def addresses(host):
    """The host is 1, the guest 2."""
    return f"10.0.0.{host}", f"fd00::{host}"


class Wire:
    """What these groups share: a guest at the end of a tap, for its first interface."""

    transports = "pci",

    def wire(self, name, *arguments, **keys):
        """The tap exists, so that its end of the wire can be set up; the guest has what it says."""
        for address, bits in zip(addresses(1), (24, 64)):
            run("ip", "address", "add", f"{address}/{bits}", "dev", name,
                *(["nodad"] if ":" in address else []))
        run("ip", "link", "set", name, "up")
        vm = self.boot("--net", *arguments, **keys).ready()
        vm.sh("echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad;"
              "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set eth0 up")
        for address, bits in zip(addresses(2), (24, 64)):
            vm.sh(f"ip address add {address}/{bits} dev eth0")
        return vm


class Tap(Wire, Group):
    """A tap with two queues that was made before, a macvtap that is passed on, and a bridged one."""

    def start(self):
        private_network()
        run("ip", "tuntap", "add", "dev", "wire", "mode", "tap", "vnet_hdr", "multi_queue")
        run("ip", "link", "add", "switch", "type", "bridge")
        run("ip", "address", "add", "10.0.8.1/24", "dev", "switch")
        run("ip", "link", "set", "switch", "up")
        fd = self.macvtap()
        self.vm = self.wire("wire", "wire,queues=2,mtu=9000", "--net", f"fd={fd}",
                            "--net", "port,bridge=switch", "--cpus", 2, pass_fds=(fd,))

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


class Combinations(Wire, Group):
    """Files both ways with each combination of queues, rings and offloads, and the rate of each."""

    def start(self):
        if not self.long:
            raise Skip("only with --long")
        if not shutil.which("iperf3"):
            raise Skip("iperf3 is not installed")
        private_network()
        self.initrd = self.with_program("/usr/bin/iperf3")

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

    def rate(self, *options):
        """By iperf3, in Mbit/s."""
        report = json.loads(run("iperf3", "-J", "-c", addresses(2)[0], "-t", 3, *options))
        return report["end"]["sum_received"]["bits_per_second"] / 1e6

    def carry(self, queues, *rings):
        name = f"wire{queues}{len(rings)}"
        run("ip", "tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr",
            *(["multi_queue"] if queues > 1 else []))
        vm = self.wire(name, ",".join((name, f"queues={queues}", *rings)), "--cpus", 2,
                       "--memory", "512M", initrd=self.initrd)
        vm.sh("iperf3 -sD")
        if queues > 1:
            vm.sh(f"ethtool -L eth0 combined {queues}")
        for offloads in "on", "off":
            vm.sh("ethtool -K eth0 " + " ".join(f"{feature} {offloads}" for feature in
                                                ("rx", "tx", "tso", "gso", "gro")))
            for host, guest in zip(addresses(1), addresses(2)):
                vm.receive(guest, SIZE)
                vm.give_back(host)
            streams = "-P", queues
            print(f"{queues} queues, {' '.join(rings) or 'split'}, offloads {offloads}: "
                  f"to the guest {self.rate(*streams):.0f} Mbit/s, "
                  f"from it {self.rate('-R', *streams):.0f} Mbit/s", flush=True)
        equal(vm.power_off(), 0)
        run("ip", "link", "del", name)

    def test_one_split(self):
        self.carry(1)

    def test_one_packed(self):
        self.carry(1, "packed")

    def test_four_split(self):
        self.carry(4)

    def test_four_packed(self):
        self.carry(4, "packed")
