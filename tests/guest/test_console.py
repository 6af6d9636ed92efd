# SPDX-License-Identifier: Apache-2.0
"""Consoles: the terminal, and what may stand in its place."""
import hashlib
import os
import re
import socket
import termios
import time

from guest import MACHINE, Group, equal, until


class Terminal(Group):
    """A terminal of our own."""

    def resize(self, rows, columns):
        termios.tcsetwinsize(self.vm.terminal, (rows, columns))
        until(lambda: self.vm.sh("stty -F /dev/hvc0 size") == f"{rows} {columns}")

    def start(self):
        self.vm = self.boot(terminal=True).ready()

    def test_is_raw(self):
        local = termios.tcgetattr(self.vm.terminal)[3]
        assert not local & (termios.ECHO | termios.ICANON | termios.ISIG)

    def test_tells_its_size(self):
        until(lambda: self.vm.sh("stty -F /dev/hvc0 size") == "24 80")
        self.resize(43, 132)
        self.resize(25, 90)

    def test_echoes_input(self):
        self.vm.sh("stty -F /dev/hvc0 echo")
        self.vm.send("echo $((6 * 7)) words\n")
        self.vm.expect(r"echo \$\(\(6 \* 7\)\) words\r?\n42 words\r?\n\r?\n=> 0\r?\n")
        self.vm.ask("stty -F /dev/hvc0 -echo")

    def test_loses_nothing_with_a_slow_reader(self):
        checksum = self.vm.make_lines()
        self.vm.send("cat /tmp/lines\n")
        time.sleep(2)
        start = self.vm.at
        match = self.vm.expect("^\n=> 0\n", 120)
        equal(hashlib.sha256(self.vm.seen[start:match.start()]).hexdigest(), checksum)

    def test_shows_the_state_at_ctrl_a_c(self):
        self.vm.send("\x01c")
        line = re.compile(r"^microvm: up [0-9.]+ s, 1 vCPUs, 256 MiB; .*console0")
        until(lambda: line.search(self.vm.errors()))

    def test_passes_ctrl_a_on(self):
        self.vm.send("stty -F /dev/hvc0 -icanon; head -c 1 </dev/hvc0 | od -An -tx1; "
                     "stty -F /dev/hvc0 icanon\n")
        time.sleep(1)
        self.vm.send("\x01\x01")
        self.vm.expect("^ *01\r?\n")
        self.vm.expect("=> 0")

    def test_leaves_with_130_at_ctrl_a_x(self):
        self.vm.send("\x01x")
        equal(self.vm.wait(), 130)

    def test_is_as_it_was(self):
        equal(termios.tcgetattr(self.vm.terminal), self.vm.modes)


class Socket(Group):
    """A socket for the console, a file for the serial port; a restart that ends the run."""

    def connect(self):
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.connect(str(self.dir / "socket"))
        self.vm.attach(self.peer.fileno())

    def start(self):
        self.vm = self.boot("--console", f"socket={self.dir}/socket",
                            "--serial", f"file={self.dir}/serial", "--no-reboot")
        until((self.dir / "socket").exists)
        self.connect()
        self.vm.ready()

    def test_takes_another_peer(self):
        self.peer.close()
        self.connect()
        equal(self.vm.sh("echo again"), "again")

    def test_leaves_the_serial_port_its_own(self):
        self.vm.sh("echo through the port >/dev/ttyS0")
        until(lambda: b"through the port\r\n" in (self.dir / "serial").read_bytes())

    def test_ends_with_0_at_a_reboot(self):
        self.vm.send("reboot -f\n")
        equal(self.vm.wait(), 0)

    def test_is_removed(self):
        assert not (self.dir / "socket").exists()


class Pty(Group):
    """A pseudo terminal that microvm makes."""

    transports = "pci",

    def start(self):
        self.vm = self.boot("--console", "pty", "--log", "info")
        until(lambda: "it is at /dev/pts/" in self.vm.errors())
        path = re.search(r"/dev/pts/\d+", self.vm.errors())[0]
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        self.stack.callback(os.close, fd)
        self.vm.attach(fd)
        self.vm.ready()

    def test_carries_both_ways(self):
        equal(self.vm.sh("echo both ways"), "both ways")

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)


class Serial(Group):
    """A 16550 on stdin and stdout, and a file for the console."""

    transports = "pci",

    def start(self):
        self.vm = self.boot("--serial", "stdio", "--console", f"file={self.dir}/console",
                            words="console=ttyS0").ready()

    def test_is_a_16550(self):
        self.vm.sh(f"grep -q '^0: uart:16550A {MACHINE.serial}' /proc/tty/driver/serial")

    def test_loses_nothing(self):
        equal(self.vm.sh("seq 10000 12000"), "\n".join(map(str, range(10000, 12001))))

    def test_console_goes_to_the_file(self):
        self.vm.sh("echo into the file >/dev/hvc0")
        equal(self.vm.power_off(), 0)
        assert "into the file" in (self.dir / "console").read_text()


class Silent(Group):
    """No console."""

    transports = "pci",

    def start(self):
        self.vm = self.boot("--console", "none", words="test=nothing")
        self.status = self.vm.wait(120)

    def test_powers_off_with_0(self):
        equal(self.status, 0)
        equal(self.vm.seen, b"")
