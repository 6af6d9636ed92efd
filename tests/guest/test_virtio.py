# SPDX-License-Identifier: Apache-2.0
"""Virtio under Linux: rings of every kind, drivers that come and go, and one that lies."""
import json
import os
import re
import socket
import subprocess

from guest import Failure, Group, Skip, equal, is_emulated, private_network, run, until

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
        if is_emulated() and os.uname().machine == "x86_64" and not self.long:
            raise Skip("four busy vCPUs make the kernel of an emulated x86 host panic now and then: --long")
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
        self.vm.sh(f"head -c {self.size // 2} /dev/urandom >/tmp/disk")
        everywhere = "for disk in vda vdb vdc; do for i in 0 1 2 3; do"
        self.vm.sh(f"{everywhere} taskset $((1 << i)) dd if=/tmp/disk of=/dev/$disk bs=64k "
                   "skip=$((i * 16)) seek=$((i * 16)) count=16 conv=fsync,notrunc 2>/dev/null & "
                   'jobs="$jobs $!"; done; done; wait $jobs', 120)
        self.vm.sh(f"jobs=; {everywhere} taskset $((1 << (i + 1) % 4)) dd if=/dev/$disk bs=1M "
                   "skip=$i count=1 iflag=direct of=/tmp/part.$disk.$i 2>/dev/null & "
                   'jobs="$jobs $!"; done; done; wait $jobs', 120)
        for disk in self.disks:
            self.vm.sh(f"cat /tmp/part.{disk}.[0-3] | cmp - /tmp/disk")

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
            self.vm.receive(guest_address(net), MIB)
            self.vm.give_back(host_address(net))

    def test_change_in_number_under_traffic(self):
        def change():
            for pairs in 1, 2, 3, 4, 1, 4:
                self.vm.sh(f"ethtool -L eth0 combined {pairs}")
        self.vm.receive(guest_address(0), 4 * MIB, meanwhile=change)
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
        for address, word in (STRANGER, "promisc"), (MULTICAST, "allmulti"):
            for command, arrives in (("true", False), (f"ifconfig eth0 {word}", True),
                                     (f"ifconfig eth0 -{word}", False)):
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
        equal(self.vm.sh("seq 10000 12000"), "\n".join(map(str, range(10000, 12001))))

    def test_gave_no_reason_to_complain(self):
        assert_no_complaints(self.vm)

    def test_come_back_from_a_reboot_under_load(self):
        """The load writes the second half of the disks.

        No packets: Linux 6.1 breaks queues at its end, and a network's poll then waits for ever for used buffers
        that a broken queue does not give (virtqueue_get_buf() and virtqueue_enable_cb_delayed() in turn).
        """
        sums = {disk: self.vm.sh(f"head -c {self.size // 2} /dev/{disk} | sha256sum")
                for disk in self.disks}
        self.vm.send("for disk in vda vdb vdc; do while :; do "
                     "dd if=/tmp/disk of=/dev/$disk bs=64k seek=64 conv=fsync,notrunc; "
                     "done 2>/dev/null & done; sleep 2; reboot -f\n")
        self.vm.ready()
        equal({disk: self.vm.sh(f"head -c {self.size // 2} /dev/{disk} | sha256sum")
               for disk in self.disks}, sums)
        self.connect()
        for net in range(len(self.nets)):
            ping(self.vm, host_address(net))

    def test_spare_doorbells_and_interrupts(self):
        equal(self.vm.power_off(), 0)
        summary = json.loads((self.dir / "summary").read_text())
        equal(summary["restarts"], 1)
        busy = [counts for name, counts in summary["devices"].items()
                if name.startswith(("blk", "net"))]
        chains, kicks, interrupts = (sum(counts[name] for counts in busy)
                                     for name in ("chains", "kicks", "interrupts"))
        assert kicks < chains and interrupts < chains, busy


class Reload(Group):
    """Drivers that come and go with everything busy; a hundred times where there is the time."""

    drivers = {  # and how each shows that it works
        "virtio_net": f"ip link set eth0 up; ip address add {guest_address(0)}/24 dev eth0; "
                      f"ping -q -c 1 -w 1 {host_address(0)} >/dev/null",
        "virtio_rng": "head -c 16 /dev/hwrng >/dev/null",
        "virtio_console": "echo round $i >/dev/hvc0",
    }

    def start(self):
        private_network()
        self.times = 100 if self.long else 10
        packed = "packed=on" if self.transport == "pci" else "packed=off"
        self.busy, self.reloaded = self.image("busy", 64 * MIB), self.image("reloaded", MIB)
        self.vm = self.boot("--disk", f"{self.busy},queues=2,{packed}",
                            "--disk", f"{self.reloaded},queues=2,{packed}",
                            "--net", f"tap0,queues=2,{packed}", "--rng", packed,
                            "--console", f"file={self.dir}/console,{packed}",
                            "--serial", "stdio", "--cpus", 2, words="console=ttyS0").ready()
        connect(self.vm, 0, "tap0")
        self.vm.sh("dmesg -c >/tmp/dmesg; head -c 1048576 /dev/urandom >/tmp/disk; "
                   "dd if=/tmp/disk of=/dev/vdb bs=64k conv=fsync")
        self.flood = subprocess.Popen(["ping", "-q", "-f", guest_address(0)],
                                      stdout=subprocess.DEVNULL)
        self.stack.callback(self.flood.wait)
        self.stack.callback(self.flood.kill)
        self.vm.sh("while :; do cat /dev/hwrng; done >/dev/null 2>&1 &")

    def reload(self, rounds):
        """Each of (cycle, check), all at once."""
        self.vm.sh("jobs=")
        for cycle, check in rounds:
            self.vm.sh(f"/tests/reload {self.times} '{cycle}' '{check}' & jobs=\"$jobs $!\"")
        equal(self.vm.sh("wait $jobs", 3600).split(), [str(self.times)] * len(rounds))

    def test_loses_nothing_while_a_disk_is_written(self):
        """One disk is written and flushed, another is taken away with reads in flight."""
        disk = self.vm.sh("readlink /sys/block/vdb/device | xargs basename")
        driver = "/sys/bus/virtio/drivers/virtio_blk"
        rounds = [("dd if=/dev/vdb of=/dev/null bs=64k iflag=direct 2>/dev/null & "
                   f"echo {disk} >{driver}/unbind; echo {disk} >{driver}/bind",
                   "cmp /tmp/disk /dev/vdb")]
        rounds += [(f"rmmod {driver} && modprobe {driver}", check)
                   for driver, check in self.drivers.items()]
        self.vm.sh("/tests/writer /dev/vda >/tmp/written & writer=$!")
        self.reload(rounds)
        self.vm.sh("touch /tmp/stop; wait $writer")
        assert_sectors(self.busy, int(self.vm.sh("cat /tmp/written")))
        printed = re.findall(r"^round (\d+)", (self.dir / "console").read_text(), re.M)
        equal(printed, [str(i) for i in range(1, self.times + 1)])

    def test_loses_nothing_without_any_disk(self):
        self.reload([("rmmod virtio_blk && modprobe virtio_blk",
                      "printf %0512d $i | dd of=/dev/vdb bs=512 seek=$i conv=fsync,notrunc")])
        assert_sectors(self.reloaded, self.times)

    def test_gave_no_reason_to_complain(self):
        assert_no_complaints(self.vm)

    def test_powers_off_with_0(self):
        # See Rings' restart: Linux 6.1 may not end while packets come.
        self.flood.kill()
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
                   "head -c 1048576 /dev/urandom >/tmp/disk; "
                   "dd if=/tmp/disk of=/dev/vdb bs=64k conv=fsync")

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
            self.vm.sh("cmp -n 1048576 /tmp/disk /dev/vdb")

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
        self.vm.sh("cmp -n 1048576 /tmp/disk /dev/vdb")

    def test_takes_nothing_from_linux(self):
        equal(self.faults(), 7)
        equal(self.vm.sh("dmesg -r | grep -E '^<[0-3]>' || true"), "")
        equal(self.vm.power_off(), 0)
