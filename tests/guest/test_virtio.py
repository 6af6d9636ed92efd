# SPDX-License-Identifier: Apache-2.0
"""Virtio under Linux: rings of every kind, drivers that come and go, and one that lies."""
import hashlib
import json
import os
import re
import socket
import subprocess
import threading

from guest import Failure, Group, Skip, equal, private_network, run, until

RING_PACKED, IN_ORDER = 34, 35
MIB = 1 << 20
STRANGER, MULTICAST = "10.0.0.9", "239.1.2.3"


def host_address(net):
    return f"10.0.{net}.1"


def guest_address(net):
    return f"10.0.{net}.2"


def features(vm, device):
    """The bits of those that were agreed; device is a directory in sysfs."""
    return {bit for bit, char in enumerate(vm.sh(f"cat {device}/features")) if char == "1"}


def connect(vm, net, tap):
    """Gives the guest's end of a network its address, and the host's unless it has it."""
    if host_address(net) not in run("ip", "address", "show", "dev", tap):
        run("ip", "address", "add", f"{host_address(net)}/24", "dev", tap)
        run("ip", "link", "set", tap, "up")
    vm.sh(f"ip link set eth{net} up; ip address add {guest_address(net)}/24 dev eth{net}")


def ping(vm, address):
    vm.sh(f"ping -c 3 -i 0.2 -w 30 {address}")


def receive(vm, net, size, meanwhile=lambda: None):
    """Has the guest take random data by TCP into a file, and compares."""
    data = os.urandom(size)

    def send():
        with socket.create_connection((guest_address(net), 5000), timeout=120) as peer:
            peer.sendall(data)
    vm.sh("nc -l -p 5000 >/tmp/received & receiver=$!")
    until(lambda: ":5000 " in vm.sh("netstat -ltn"))
    sender = threading.Thread(target=send)  # in the network of this thread
    sender.start()
    meanwhile()
    sender.join()
    vm.sh("wait $receiver", 120)
    equal(vm.sha256("/tmp/received"), hashlib.sha256(data).hexdigest())


def give_back(vm, net):
    """The other way."""
    received = hashlib.sha256()

    def take(listener):
        with listener, listener.accept()[0] as peer:
            while data := peer.recv(1 << 16):
                received.update(data)
    with socket.create_server((host_address(net), 5001)) as listener:
        listener.settimeout(60)
        taker = threading.Thread(target=take, args=(listener,))
        taker.start()
        vm.sh(f"nc {host_address(net)} 5001 </tmp/received", 120)
        taker.join()
    equal(vm.sha256("/tmp/received"), received.hexdigest())


def assert_sectors(path, last):
    """Those that the guest wrote and flushed: each has its number in it."""
    with open(path, "rb") as file:
        for i in range(1, last + 1):
            file.seek(i * 512)
            if file.read(512) != b"%0512d" % i:
                raise Failure(f"sector {i} of {last} is not there")


def assert_no_complaints(vm):
    """Nothing happened that the guest's kernel or microvm found worth telling."""
    equal(vm.sh("dmesg -r | grep -E '^<[0-3]>|virtio.*[Ff]ailed' || true"), "")
    equal(vm.errors(), "")


class Rings(Group):
    """Each kind of device in several ways at once, and a reboot under load."""

    disks = {"vda": "packed=on,queues=4,queue-size=1024", "vdb": "queues=4,queue-size=64,poll=50",
             "vdc": "packed=on,in-order=on"}
    nets = "packed=on,queues=4", "queues=4,queue-size=1024", "packed=on,poll=50"
    size = 8 * MIB  # of a disk, whose first half is written and compared

    def connect(self):
        for net in range(len(self.nets)):
            connect(self.vm, net, f"ring{net}")

    def start(self):
        private_network()
        self.images = {disk: self.image(disk, self.size) for disk in self.disks}
        arguments = [word for disk, path in self.images.items()
                     for word in ("--disk", f"{path},{self.disks[disk]}")]
        arguments += [word for net, options in enumerate(self.nets)
                      for word in ("--net", f"ring{net},{options}")]
        self.vm = self.boot(*arguments, "--rng", "packed=on", "--console", "stdio,packed=on",
                            "--cpus", 4, "--summary", self.dir / "summary").ready()
        self.vm.sh("dmesg -c >/tmp/dmesg")
        self.connect()

    def test_are_agreed_on(self):
        devices = {f"/sys/block/{disk}/device": options for disk, options in self.disks.items()}
        devices |= {f"/sys/class/net/eth{net}/device": options
                    for net, options in enumerate(self.nets)}
        for driver in "virtio_rng", "virtio_console":
            devices[f"/sys/bus/virtio/drivers/{driver}/virtio*"] = "packed=on"
        for device, options in devices.items():
            agreed = features(self.vm, device)
            equal((device, RING_PACKED in agreed), (device, "packed=on" in options))

    def test_are_as_many_and_as_large_as_wanted(self):
        for disk, queues in ("vda", 4), ("vdb", 4), ("vdc", 1):
            equal(self.vm.sh(f"ls /sys/block/{disk}/mq | wc -l"), str(queues))
        for disk, size in ("vda", 1024), ("vdb", 64):
            equal(self.vm.sh(f"cat /sys/block/{disk}/queue/nr_requests"), str(size))
        for net, pairs in (0, 4), (1, 4), (2, 1):
            channels = self.vm.sh(f"ethtool -l eth{net} | awk '/Combined/ {{ print $2 }}'")
            equal(channels.split(), [str(pairs)] * 2)
        sizes = self.vm.sh("ethtool -g eth1 | awk '/^[RT]X:/ { print $2 }'")
        equal(sizes.split(), ["1024"] * 4)

    def test_carry_a_disk(self):
        """Written from each vCPU at once; read, past the guest's cache, by another."""
        self.vm.sh(f"head -c {self.size // 2} /dev/urandom >/tmp/data")
        for _ in range(3):
            self.vm.sh("for disk in vda vdb vdc; do for i in 0 1 2 3; do taskset $((1 << i)) "
                       "dd if=/tmp/data of=/dev/$disk bs=64k skip=$((i * 16)) seek=$((i * 16)) "
                       "count=16 conv=fsync,notrunc 2>/dev/null & jobs=\"$jobs $!\"; "
                       "done; done; wait $jobs", 120)
        self.vm.sh("jobs=; for disk in vda vdb vdc; do for i in 0 1 2 3; do "
                   "taskset $((1 << (i + 1) % 4)) dd if=/dev/$disk of=/tmp/$disk.$i bs=1M skip=$i "
                   "count=1 iflag=direct 2>/dev/null & jobs=\"$jobs $!\"; done; done; wait $jobs", 120)
        for disk in self.disks:
            self.vm.sh(f"cat /tmp/{disk}.[0-3] | cmp - /tmp/data")

    def test_have_interrupts_of_their_own(self):
        if self.transport != "pci":
            raise Skip("virtio-mmio has one interrupt for all queues")
        name = self.vm.sh("readlink /sys/block/vda/device | xargs basename")
        for queue in range(4):
            counts = self.vm.sh(f"grep '{name}-req.{queue}$' /proc/interrupts").split()[1:5]
            assert sum(map(int, counts)), f"queue {queue} had none"

    def test_carry_a_network(self):
        for net in range(len(self.nets)):
            ping(self.vm, host_address(net))
            receive(self.vm, net, 4 * MIB)
            give_back(self.vm, net)

    def test_change_in_number_under_traffic(self):
        def change():
            for pairs in 1, 2, 3, 4, 1, 4:
                self.vm.sh(f"ethtool -L eth0 combined {pairs}")
        receive(self.vm, 0, 8 * MIB, meanwhile=change)
        self.vm.sh("ethtool -l eth0 | tail -n 3 | grep 'Combined:.*4'")

    def arrive(self, address):
        """Whether the guest's first interface takes frames that go to this address."""
        count = 50
        before = int(self.vm.sh("cat /sys/class/net/eth0/statistics/rx_packets"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF,
                              socket.inet_aton(host_address(0)))
            for _ in range(count):
                sender.sendto(b"", (address, 9))
        ping(self.vm, host_address(0))
        return int(self.vm.sh("cat /sys/class/net/eth0/statistics/rx_packets")) - before >= count

    def test_filter_as_the_driver_says(self):
        run("ip", "neigh", "add", STRANGER, "lladdr", "52:54:00:00:00:99", "dev", "ring0")
        for address, on, off in ((STRANGER, "ip link set eth0 promisc on", "ip link set eth0 promisc off"),
                                 (MULTICAST, "ifconfig eth0 allmulti", "ifconfig eth0 -allmulti")):
            for command, arrives in ("true", False), (on, True), (off, False):
                self.vm.sh(command)
                equal((command, self.arrive(address)), (command, arrives))

    def test_carry_vlans(self):
        run("ip", "link", "add", "link", "ring0", "name", "vlan5", "type", "vlan", "id", 5)
        run("ip", "address", "add", "10.1.0.1/24", "dev", "vlan5")
        run("ip", "link", "set", "vlan5", "up")
        self.vm.sh("modprobe 8021q; vconfig add eth0 5; ip address add 10.1.0.2/24 dev eth0.5; "
                   "ip link set eth0.5 up")
        ping(self.vm, "10.1.0.1")
        self.vm.sh("vconfig rem eth0.5")

    def test_take_another_address(self):
        self.vm.sh("ip link set eth0 address 52:54:00:ab:cd:ef")
        run("ip", "neigh", "flush", "dev", "ring0")
        ping(self.vm, host_address(0))
        assert "52:54:00:ab:cd:ef" in run("ip", "neigh", "show", "dev", "ring0")

    def test_carry_entropy_and_a_console(self):
        equal(self.vm.sh("head -c 4096 /dev/hwrng | wc -c"), "4096")
        checksum = self.vm.make_lines()
        text = self.vm.sh("cat /tmp/lines", 120) + "\n"
        equal(hashlib.sha256(text.encode()).hexdigest(), checksum)

    def test_gave_no_reason_to_complain(self):
        assert_no_complaints(self.vm)

    def test_come_back_from_a_reboot_under_load(self):
        """The load writes the second half of the disks."""
        sums = {disk: self.vm.sh(f"head -c {self.size // 2} /dev/{disk} | sha256sum")
                for disk in self.disks}
        flood = subprocess.Popen(["ping", "-q", "-f", guest_address(0)], stdout=subprocess.DEVNULL)
        self.stack.callback(flood.kill)
        self.vm.send("for disk in vda vdb vdc; do while :; do "
                     "dd if=/tmp/data of=/dev/$disk bs=64k seek=64 conv=fsync,notrunc; "
                     "done 2>/dev/null & done; sleep 2; reboot -f\n")
        self.vm.ready()
        equal({disk: self.vm.sh(f"head -c {self.size // 2} /dev/{disk} | sha256sum")
               for disk in self.disks}, sums)
        flood.kill()
        flood.wait()
        self.connect()
        for net in range(len(self.nets)):
            ping(self.vm, host_address(net))

    def test_spare_doorbells_and_interrupts(self):
        equal(self.vm.power_off(), 0)
        summary = json.loads((self.dir / "summary").read_text())
        equal(summary["restarts"], 1)
        for name, counts in summary["devices"].items():
            if name.startswith(("blk", "net")):
                assert counts["kicks"] < counts["chains"], (name, counts)
                assert counts["interrupts"] < counts["chains"], (name, counts)


class Reload(Group):
    """Drivers that come and go, each a hundred times, with everything busy."""

    times = 100
    drivers = {  # and how each shows that it works
        "virtio_net": f"ip link set eth0 up; ip address add {guest_address(0)}/24 dev eth0; "
                      f"ping -q -c 1 -w 1 {host_address(0)} >/dev/null",
        "virtio_rng": "head -c 16 /dev/hwrng >/dev/null",
        "virtio_console": "echo round $i >/dev/hvc0",
    }

    def start(self):
        private_network()
        options = "packed=on,queues=2" if self.transport == "pci" else "queues=2"
        self.busy, self.reloaded = self.image("busy", 4 * MIB), self.image("reloaded", MIB)
        self.vm = self.boot("--disk", f"{self.busy},{options}",
                            "--disk", f"{self.reloaded},{options}",
                            "--net", f"tap0,{options}", "--cpus", 2, "--serial", "stdio",
                            "--console", f"file={self.dir}/console,{options.split(',')[0]}"
                            if self.transport == "pci" else f"file={self.dir}/console",
                            words="console=ttyS0").ready()
        connect(self.vm, 0, "tap0")
        self.vm.sh("dmesg -c >/tmp/dmesg; head -c 1048576 /dev/urandom >/tmp/data; "
                   "dd if=/tmp/data of=/dev/vdb bs=64k conv=fsync")
        flood = subprocess.Popen(["ping", "-q", "-f", guest_address(0)], stdout=subprocess.DEVNULL)
        self.stack.callback(flood.wait)
        self.stack.callback(flood.kill)
        self.vm.sh("while :; do cat /dev/hwrng; done >/dev/null 2>&1 &")

    def reload(self, rounds):
        """Each of (cycle, check), all at once."""
        self.vm.sh("jobs=")
        for cycle, check in rounds:
            self.vm.sh(f"/tests/reload {self.times} '{cycle}' '{check}' & jobs=\"$jobs $!\"")
        equal(self.vm.sh("wait $jobs", 600).split(), [str(self.times)] * len(rounds))

    def test_loses_nothing_while_a_disk_is_written(self):
        """One disk is written and flushed, another is taken away with reads in flight."""
        disk = self.vm.sh("readlink /sys/block/vdb/device | xargs basename")
        driver = "/sys/bus/virtio/drivers/virtio_blk"
        rounds = [("dd if=/dev/vdb of=/dev/null bs=64k iflag=direct 2>/dev/null & "
                   f"echo {disk} >{driver}/unbind; echo {disk} >{driver}/bind",
                   "cmp /tmp/data /dev/vdb")]
        rounds += [(f"rmmod {driver} && modprobe {driver}", check)
                   for driver, check in self.drivers.items()]
        self.vm.sh("/tests/writer /dev/vda >/tmp/written & writer=$!")
        self.reload(rounds)
        self.vm.sh("touch /tmp/stop; wait $writer")
        assert_sectors(self.busy, int(self.vm.sh("cat /tmp/written")))
        printed = (self.dir / "console").read_text()
        equal([int(i) for i in re.findall(r"^round (\d+)", printed, re.M)], list(range(1, self.times + 1)))

    def test_loses_nothing_without_any_disk(self):
        self.reload([("rmmod virtio_blk && modprobe virtio_blk",
                      "printf %0512d $i | dd of=/dev/vdb bs=512 seek=$i conv=fsync,notrunc")])
        assert_sectors(self.reloaded, self.times)

    def test_gave_no_reason_to_complain(self):
        assert_no_complaints(self.vm)

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)


class Rogue(Group):
    """A driver that breaks the rules, and one that leaves with requests in flight."""

    def start(self):
        private_network()
        run("modprobe", "null_blk", "nr_devices=2", "queue_mode=2", "irqmode=2", "memory_backed=1",
            "completion_nsec=20000000", "gb=1")
        slow = f"/dev/nullb{self.transports.index(self.transport)}"
        self.vm = self.boot("--disk", self.image("fast", MIB),
                            "--disk", f"{slow},direct,packed=on,queues=2",
                            "--net", "tap0,packed=on", "--cpus", 2, "--log", "info",
                            words="iomem=relaxed").ready()
        connect(self.vm, 0, "tap0")
        self.vm.sh("dmesg -c >/tmp/dmesg; echo 1 >/proc/sys/vm/nr_hugepages; "
                   "head -c 1048576 /dev/urandom >/tmp/data; "
                   "dd if=/tmp/data of=/dev/vdb bs=64k conv=fsync")

    def rogue(self, device, *commands):
        """Takes a device, a directory in sysfs, from Linux' driver and gives it back."""
        path = self.vm.sh(f"dirname $(readlink -f {device})")
        name = os.path.basename(path)
        if self.transport == "pci":
            driver, where = "pci/drivers/virtio-pci", path
        else:
            driver = "platform/drivers/virtio-mmio"
            where = self.vm.sh(f"grep -m 1 {name} /proc/iomem | grep -o '^ *[0-9a-f]*'")
        self.vm.sh(f"echo {name} >/sys/bus/{driver}/unbind")
        said = [self.vm.sh(f"rogue {where} {command}", 120) for command in commands]
        self.vm.sh(f"echo {name} >/sys/bus/{driver}/bind")
        return said

    def faults(self):
        return self.vm.errors().count("broke the rules")

    def test_has_to_reset_a_disk(self):
        for i, lie in enumerate(("outside", "loop", "head")):
            self.rogue("/sys/block/vdb/device", lie)
            until(lambda: self.faults() == i + 1)
            self.vm.sh("cmp -n 1048576 /tmp/data /dev/vdb")

    def test_has_to_reset_other_devices(self):
        self.rogue("/sys/class/net/eth0/device", "outside", "head")
        connect(self.vm, 0, "tap0")
        ping(self.vm, host_address(0))
        self.rogue("/sys/bus/virtio/drivers/virtio_rng/virtio*", "outside", "head")
        self.vm.sh("head -c 16 /dev/hwrng >/dev/null")

    def test_is_told_of_once_for_each_fault(self):
        equal(self.faults(), 7)

    def test_leaves_with_reads_in_flight(self):
        """Reads take 20 ms: whatever the moment of a reset, nothing is written after it."""
        said, = self.rogue("/sys/block/vdb/device", "abandon 50")
        returned, abandoned = map(int, re.findall(r"\d+", said))
        assert returned and abandoned, said
        self.vm.sh("cmp -n 1048576 /tmp/data /dev/vdb")

    def test_takes_nothing_from_linux(self):
        equal(self.faults(), 7)
        equal(self.vm.sh("dmesg -r | grep -E '^<[0-3]>' || true"), "")
        equal(self.vm.power_off(), 0)
