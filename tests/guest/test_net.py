# SPDX-License-Identifier: Apache-2.0
"""Networks: two guests and the host on a bridge."""
import hashlib
import json
import signal
import urllib.request

from guest import Group, equal, private_network, run, until

HOST, FIRST, SECOND = "10.0.0.1", "10.0.0.2", "10.0.0.3"
SIZE = 8 << 20


class Net(Group):
    """A tap that was there, one that microvm makes, and one with another MTU."""

    short = "pci",

    def start(self):
        private_network()
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "tuntap", "add", "dev", "old", "mode", "tap", "vnet_hdr")
        self.first = self.boot("--net", "new", "--name", "first")
        self.second = self.boot("--net", "old", "--net", "odd,mtu=1400,mac=52:54:00:12:34:56",
                                "--cpus", 2)
        until(lambda: '"new"' in run("ip", "-j", "link"))
        for tap in "old", "new":
            run("ip", "link", "set", tap, "master", "br0", "up")
        run("ip", "address", "add", f"{HOST}/24", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        for vm, address in (self.first, FIRST), (self.second, SECOND):
            vm.ready().sh(f"ip link set eth0 up; ip address add {address}/24 dev eth0")

    def test_two_guests_are_up_at_once(self):
        macs = {vm.sh("cat /sys/class/net/eth0/address") for vm in (self.first, self.second)}
        equal(len(macs), 2)

    def test_has_offloads_on(self):
        features = self.first.sh("ethtool -k eth0").splitlines()
        for feature in ("rx-checksumming", "tx-checksumming", "scatter-gather",
                        "tcp-segmentation-offload", "generic-segmentation-offload",
                        "generic-receive-offload"):
            equal([line.split()[1] for line in features if line.startswith(f"{feature}:")], ["on"])

    def test_has_its_mtu_and_address(self):
        equal(self.second.sh("cat /sys/class/net/eth1/mtu"), "1400")
        equal(self.second.sh("cat /sys/class/net/eth1/address"), "52:54:00:12:34:56")
        equal(json.loads(run("ip", "-j", "link", "show", "odd"))[0]["mtu"], 1400)

    def test_reaches_the_host(self):
        self.first.sh(f"ping -c 3 -i 0.2 {HOST}")

    def test_reaches_the_other_guest(self):
        self.first.sh(f"ping -c 3 -i 0.2 {SECOND}")

    def mean_packet(self, direction, transfer):
        """Bytes per packet on the tap while transfer() runs; direction is the tap's."""
        def counters():
            return json.loads(run("ip", "-s", "-j", "link", "show", "new"))[0]["stats64"][direction]
        before = counters()
        transfer()
        after = counters()
        return (after["bytes"] - before["bytes"]) / (after["packets"] - before["packets"])

    def test_receives_over_tcp(self):
        size = self.mean_packet("tx", lambda: self.first.receive(FIRST, SIZE))
        assert size > 1600, f"{size:.0f} bytes per packet: no segment was left to the guest"

    def test_sends_over_tcp(self):
        self.first.give_back(HOST)

    def test_leaves_segments_to_the_host(self):
        """By a sender that writes much at once: netcat's small writes need not meet in a segment."""
        self.first.sh("httpd -p 80 -h /tmp")
        received = hashlib.sha256()

        def transfer():
            with urllib.request.urlopen(f"http://{FIRST}/data", timeout=60) as data:
                received.update(data.read())
        size = self.mean_packet("rx", transfer)
        equal(self.first.sha256("/tmp/data"), received.hexdigest())
        assert size > 1600, f"{size:.0f} bytes per packet: no segment was left to the host"

    def test_guests_exchange_over_tcp(self):
        self.second.sh(f"wget -q -O /tmp/data http://{FIRST}/data", 120)
        equal(self.second.sha256("/tmp/data"), self.first.sha256("/tmp/data"))

    def test_tap_is_busy(self):
        third = self.boot("--net", "old")
        equal(third.wait(), 1)
        assert "another process has this tap" in third.errors()

    def test_power_button_ends_with_0(self):
        self.first.sh("exec 9</dev/input/event0; (head -c 24 <&9 >/dev/null; poweroff -f) &")
        self.first.process.send_signal(signal.SIGTERM)
        equal(self.first.wait(), 0)

    def test_second_sigterm_ends_with_130(self):
        self.second.process.send_signal(signal.SIGTERM)
        self.second.sh("true")
        self.second.process.send_signal(signal.SIGTERM)
        equal(self.second.wait(), 130)
