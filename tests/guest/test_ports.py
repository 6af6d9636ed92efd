# SPDX-License-Identifier: Apache-2.0
"""Named ports of virtio-console, between programs of the guest and of the host."""
import hashlib
import os
import re
import socket
import termios
import threading
from pathlib import Path

from guest import Group, equal, until

PORTS = [f"port{i}" for i in range(8)]
MIB = 1 << 20
GUEST = 128 * MIB  # less than the least that a test gives to a guest

# serve NAME BLOCKS TIMES: takes so many blocks of 64 KiB, and gives /tmp/lines so many times,
# behind its name.
SERVE = ("serve() { exec 3<>/dev/virtio-ports/$1; echo $1 >&3; "
         "dd bs=64k count=$2 iflag=fullblock <&3 2>/dev/null | sha256sum >/tmp/$1 & "
         "for i in $(seq $3); do cat /tmp/lines; done >&3; wait; }")


def largest_mapping(pid):
    ranges = (line.split()[0].split("-") for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return max(int(end, 16) - int(start, 16) for start, end in ranges)


class Peer(threading.Thread):
    """A program at a port: sends its data while it takes what comes, up to the end."""

    def __init__(self, sock, data=b"", times=0):
        super().__init__(daemon=True)
        self.sock, self.data, self.times = sock, data, times
        self.seen = hashlib.sha256()
        self.start()

    def run(self):
        sender = threading.Thread(target=self.send, daemon=True)
        sender.start()
        while data := self.sock.recv(1 << 16):
            self.seen.update(data)
        sender.join()
        self.sock.close()

    def send(self):
        for _ in range(self.times):
            self.sock.sendall(self.data)


class Ports(Group):
    """Eight ports on UNIX sockets, and one more console. To the last port's, and to the serial port's, microvm connects."""

    transports = "pci",

    def connect(self, name):
        peer = socket.socket(socket.AF_UNIX)
        self.stack.enter_context(peer)
        peer.settimeout(600)
        if name == PORTS[-1]:
            peer, _ = self.listener.accept()
            self.stack.enter_context(peer)
            peer.settimeout(600)
        else:
            peer.connect(str(self.dir / name))
        return peer

    def listen(self, name):
        listener = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(self.dir / name))
        listener.listen()
        listener.settimeout(60)
        return listener

    def start(self):
        self.listener = self.listen(PORTS[-1])
        self.listen("serial")
        options = [f"{name},socket={self.dir}/{name}" for name in PORTS[:-1]]
        options += [f"{PORTS[-1]},connect={self.dir}/{PORTS[-1]}", "login,pty,console"]
        self.vm = self.boot(*(word for each in options for word in ("--port", each)),
                            "--serial", f"connect={self.dir}/serial",
                            timeout=3600 if self.long else 600).ready()
        # As udev does it; the console has no name.
        self.vm.sh("mkdir /dev/virtio-ports; for i in /sys/class/virtio-ports/*/name; do "
                   "dir=${i%/name}; ln -s /dev/${dir##*/} /dev/virtio-ports/$(cat $i); done")
        self.vm.sh(SERVE)

    def test_have_their_names(self):
        equal(sorted(self.vm.sh("ls /dev/virtio-ports").split()), sorted(["login", *PORTS]))

    def test_tell_the_guest_of_peers(self):
        port = f"/dev/virtio-ports/{PORTS[0]}"
        # Nobody is there: that is the end of the file.
        equal(self.vm.sh(f"cat {port}"), "")
        # Whoever writes waits for somebody.
        self.vm.sh(f"exec 3<>{port}; (echo hello >&3; cat <&3 >/tmp/heard) & reader=$!")
        with self.connect(PORTS[0]) as peer:
            equal(peer.recv(64), b"hello\n")
            peer.sendall(b"some words")
        self.vm.sh("wait $reader; exec 3>&-")
        equal(self.vm.sh("cat /tmp/heard"), "some words")

    def test_tell_peers_of_the_guest(self):
        with self.connect(PORTS[0]) as peer:
            self.vm.sh(f"echo once >/dev/virtio-ports/{PORTS[0]}")
            equal(peer.makefile("rb").read(), b"once\n")

    def test_connect_again(self):
        for _ in range(2):
            with self.connect(PORTS[-1]) as peer:
                self.vm.sh(f"echo there >/dev/virtio-ports/{PORTS[-1]}")
                equal(peer.makefile("rb").read(), b"there\n")

    def test_who_connects_again_is_without_the_guests_memory(self):
        process = Path(f"/proc/{self.vm.pid}")
        helpers = (process / f"task/{self.vm.pid}/children").read_text().split()
        equal(len(helpers), 2)
        if largest_mapping(self.vm.pid) < GUEST:
            equal(largest_mapping(self.vm.pid), GUEST)
        for pid in helpers:
            if largest_mapping(pid) >= GUEST:
                equal(largest_mapping(pid), 0)

    def test_do_not_wait_for_a_slow_peer(self):
        checksum = self.vm.make_lines()
        with self.connect(PORTS[0]) as slow:
            self.vm.sh(f"(serve {PORTS[0]} 0 4) & slow=$!")
            for name in PORTS[1:4]:
                with self.connect(name) as peer:
                    self.vm.sh(f"cat /tmp/lines >/dev/virtio-ports/{name}")
                    equal(hashlib.sha256(peer.makefile("rb").read()).hexdigest(), checksum)
            got = slow.makefile("rb").read()
        self.vm.sh("wait $slow")
        got = got.removeprefix(f"{PORTS[0]}\n".encode())
        self.lines = got[:len(got) // 4]
        equal(hashlib.sha256(self.lines).hexdigest(), checksum)
        equal(got, 4 * self.lines)

    def test_carry_data_in_all_directions(self):
        times = 64 if self.long else 1
        data = {name: os.urandom(MIB // 4 if not self.long else MIB) for name in PORTS}
        blocks = len(data[PORTS[0]]) * times >> 16
        peers = {name: Peer(self.connect(name), data[name], times) for name in PORTS}
        self.vm.sh(f"for i in {' '.join(PORTS)}; do (serve $i {blocks} {times}) & done; wait", 3000)
        for name, peer in peers.items():
            peer.join(60)
            sent = hashlib.sha256(f"{name}\n".encode() + self.lines * times)
            equal(peer.seen.hexdigest(), sent.hexdigest())
            taken = hashlib.sha256()
            for _ in range(times):
                taken.update(data[name])
            equal(self.vm.sh(f"cat /tmp/{name}").split()[0], taken.hexdigest())

    def test_resize_a_console(self):
        path = re.search(r"(/dev/pts/\d+) \(login\)", self.vm.errors())[1]
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        self.stack.callback(os.close, fd)
        self.vm.sh("sleep 1000 </dev/hvc1 & sleeper=$!")
        for rows, columns in (43, 132), (25, 90):
            termios.tcsetwinsize(fd, (rows, columns))
            os.write(fd, b"\n")
            until(lambda: self.vm.ask("stty -F /dev/hvc1 size") == (0, f"{rows} {columns}"))
        self.vm.sh("kill $sleeper")

    def test_power_off(self):
        equal(self.vm.power_off(), 0)
        assert not (self.dir / PORTS[0]).exists()
        assert (self.dir / PORTS[-1]).exists()
