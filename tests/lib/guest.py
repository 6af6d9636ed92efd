# SPDX-License-Identifier: Apache-2.0
"""Guests for tests: a microvm process, its console, and a shell in it.

A Guest runs images/initramfs.cpio, in which tests/guest/initramfs/agent runs what Guest.sh() sends.
A Group is a series of checks that share guests, since booting is what takes time; tests/guest/run
runs them. Its thread may have a network of its own: what it starts, and the sockets that it opens,
are there.
"""
import contextlib
import ctypes
import hashlib
import os
import pty
import re
import select
import shutil
import socket
import subprocess
import tempfile
import termios
import threading
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
MICROVM = str(BUILD / "microvm")
IMAGES = BUILD / "images"
CLONE_NEWNET = 0x40000000


class Machine:
    """What of a guest is its architecture's, which is the host's."""

    def __init__(self, kernel, compressed, ram, serial, debug_exit):
        self.kernels = kernel, compressed
        self.ram = ram  # where /proc/iomem shows that of a guest with 5 GiB begin and end
        self.serial = serial  # as /proc/tty/driver/serial has it
        self.debug_exit = debug_exit  # what writes a number to it

    @property
    def kernel(self):
        return self.kernels[0]


MACHINE = {
    "x86_64": Machine("vmlinux", "bzImage", ("-bfffffff", "100000000-17fffffff"), "port:000003F8",
                      "outb 0xf4"),
    "aarch64": Machine("Image", "Image.gz", ("40000000-", "-17fffffff"), "mmio:0x09000000",
                       "devmem 0x9050000 32"),
}[os.uname().machine]
BOOT_SECONDS = 120  # a limit, for machines that are busy; an emulated host takes 8


class Failure(Exception):
    """What a check found, in a sentence."""


class Skip(Exception):
    """Why a check cannot be made here."""


def equal(found, wanted):
    if found != wanted:
        raise Failure(f"{found!r} instead of {wanted!r}")


@contextlib.contextmanager
def images():
    """A directory with the images that guests boot, where reading is fast."""
    with tempfile.TemporaryDirectory(prefix="images.") as directory:
        for name in *(f"guest/{kernel}" for kernel in MACHINE.kernels), "initramfs.cpio":
            shutil.copy(IMAGES / name, directory)
        yield Path(directory)


def is_emulated():
    """Whether this is a host that tests/lab/host emulates: QEMU loses a guest there now and then."""
    return os.uname().nodename == "lab"


def until(condition, seconds=20):
    """Waits for what does not happen at once."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s")
        time.sleep(0.05)


def run(*command, **keys):
    """Runs a program of the host; returns what it printed."""
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **keys)
    if result.returncode:
        said = result.stderr.strip() or result.returncode
        raise Failure(f"{' '.join(map(str, command))}: {said}")
    return result.stdout


def private_network():
    """Gives this thread, and what it starts, a network namespace that ends with them."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise Skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    run("ip", "link", "set", "lo", "up")


class Report:
    """A line per check, as soon as it is made."""

    def __init__(self):
        self.lock = threading.Lock()
        self.results = {}  # of each check, by its name: the last one counts
        self.again = 0

    def say(self, result, name, text="", details=()):
        with self.lock:
            self.results[name] = result
            self.again += result == "again"
            print(f"{result} {name}{text}", *(f"     {line}" for line in details), sep="\n",
                  flush=True)

    def finish(self):
        """The sum of it; returns an exit status."""
        if self.again:
            print(f"{self.again} tried again")
        results = list(self.results.values())
        passed, skipped = results.count("ok"), results.count("skip")
        failed = len(results) - passed - skipped
        print(f"{passed} passed, {failed} failed, {skipped} skipped")
        return 1 if failed or not passed else 0


def reason(error):
    """A sentence; where the code does not give one, the line of the check."""
    if isinstance(error, Failure):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__} {error} at {place}: {frame.line}"


class Guest:
    """A microvm whose console is at hand: pipes, or with terminal=True a terminal of its own.

    prefix is a command that runs it.
    """

    def __init__(self, *arguments, terminal=False, prefix=(), program=MICROVM, **keys):
        self.seen = bytearray()  # the console's output,
        self.at = 0              # and how much of it has been looked at
        self.terminal = None
        self.stderr = tempfile.TemporaryFile()
        command = [str(word) for word in (*prefix, program, *arguments)]
        if terminal:
            self.inp, self.terminal = pty.openpty()
            self.out = self.inp
            self.modes = termios.tcgetattr(self.terminal)
            termios.tcsetwinsize(self.terminal, (24, 80))
            command = ["setsid", "--ctty", *command]
            ends = {"stdin": self.terminal, "stdout": self.terminal}
        else:
            ends = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, bufsize=0, stderr=self.stderr, **ends, **keys)
        self.pid = self.process.pid
        if not terminal:
            self.inp, self.out = self.process.stdin.fileno(), self.process.stdout.fileno()

    def attach(self, fd):
        """Takes fd for the console instead."""
        self.inp = self.out = fd

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.terminal:
            os.close(self.terminal)
            os.close(self.inp)
        for file in self.process.stdin, self.process.stdout, self.stderr:
            if file:
                file.close()

    def errors(self):
        """What microvm wrote to stderr."""
        return os.pread(self.stderr.fileno(), 1 << 20, 0).decode(errors="replace")

    def read(self, seconds):
        """Takes what the console has; False at its end."""
        if not select.select([self.out], [], [], max(0, seconds))[0]:
            return True
        try:
            data = os.read(self.out, 1 << 16)
        except OSError:  # a terminal that is left
            return False
        self.seen += data
        return bool(data)

    def expect(self, pattern, seconds=60):
        """Waits for text that matches, and goes behind it. Returns the match."""
        deadline = time.monotonic() + seconds
        regex = re.compile(pattern.encode(), re.M)
        at = self.at
        while not (match := regex.search(self.seen, at)):
            at = max(self.at, len(self.seen) - 1000)
            if time.monotonic() > deadline:
                raise Failure(f"no {pattern!r} within {seconds} s")
            if not self.read(deadline - time.monotonic()):
                raise Failure(f"the guest ended (status {self.process.wait()}) before {pattern!r}")
        self.at = match.end()
        return match

    def send(self, text):
        os.write(self.inp, text.encode())

    def ready(self):
        """Waits until sh() can be used."""
        self.expect("^=> ready\r?\n", BOOT_SECONDS)
        return self

    def ask(self, command, seconds=60):
        """Runs a line of shell in the guest; returns its exit status and its output."""
        start = self.at
        self.send(command + "\n")
        match = self.expect(r"^=> (\d+)\r?\n", seconds)
        output = self.seen[start:match.start()].decode(errors="replace").replace("\r", "")
        return int(match[1]), output.strip("\n")

    def sh(self, command, seconds=60):
        """Likewise, for a line that succeeds; returns its output."""
        status, output = self.ask(command, seconds)
        if status:
            raise Failure(f"in the guest: {command}: status {status}: {output}")
        return output

    def sha256(self, path):
        """Of a file in the guest."""
        return self.sh(f"sha256sum <{path}").split()[0]

    def units(self, *numbers, kind="block"):
        """The names of the devices of SCSI units with these numbers, once all are there. Linux
        gives names in the order in which it gets to units, which is any."""
        command = (f"for i in /sys/bus/scsi/devices/*:0:0:*/{kind}/*; do "
                   "[ ! -e \"/dev/${i##*/}\" ] || echo $i; done")
        names = {}

        def all_there():
            # The kernel may have something to say on the console, too.
            paths = [line.split("/") for line in self.sh(command).splitlines()
                     if line.startswith("/sys/bus/scsi/")]
            names.update((int(path[-3].split(":")[-1]), path[-1]) for path in paths)
            return all(number in names for number in numbers)
        until(all_there, 120)
        return [names[number] for number in numbers]

    def make_lines(self):
        """1 MiB of text in the guest's /tmp/lines; returns its checksum."""
        self.sh("head -c 786432 /dev/urandom | base64 >/tmp/lines")
        return self.sha256("/tmp/lines")

    def receive(self, address, size, meanwhile=lambda: None):
        """Has the guest, at this address, take random data by TCP into /tmp/data, and compares."""
        data = os.urandom(size)

        def send():
            with socket.create_connection((address, 5000), timeout=120) as peer:
                peer.sendall(data)
        self.sh("nc -l -p 5000 >/tmp/data & receiver=$!")
        until(lambda: ":5000 " in self.sh("netstat -ltn"))
        # In the network of this thread; a daemon, as a guest that is lost says no more.
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        meanwhile()
        sender.join()
        self.sh("wait $receiver", 120)
        equal(self.sha256("/tmp/data"), hashlib.sha256(data).hexdigest())

    def give_back(self, address):
        """The other way: what is in /tmp/data to the host, at this address."""
        received = hashlib.sha256()

        def take(listener):
            with listener, listener.accept()[0] as peer:
                while data := peer.recv(1 << 16):
                    received.update(data)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 5001), family=family) as listener:
            listener.settimeout(60)
            taker = threading.Thread(target=take, args=(listener,), daemon=True)
            taker.start()
            self.sh(f"nc {address} 5001 </tmp/data", 120)
            taker.join()
        equal(self.sha256("/tmp/data"), received.hexdigest())

    def wait(self, seconds=60):
        """Takes all output and returns the exit status."""
        deadline = time.monotonic() + seconds
        # A terminal that we hold open has no end: there it is the process's.
        while self.read(0.1) and not (self.terminal and self.process.poll() is not None):
            if time.monotonic() > deadline:
                raise Failure(f"still running after {seconds} s")
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            raise Failure("still running after the end of its console") from None

    def power_off(self):
        """The guest's own way out; returns the exit status."""
        self.send("poweroff -f\n")
        return self.wait()

    def tail(self, lines=20):
        """For the report of a failure."""
        console = self.seen.decode(errors="replace")
        for name, text in ("console", console), ("stderr", self.errors()):
            for line in text.splitlines()[-lines:]:
                yield f"{name}| {line}"


class Group:
    """Checks that share guests: the methods test_*, in their order, after start()."""

    transports = "pci", "mmio"
    machines = "x86_64", "aarch64"
    short = ()    # the transports with which it is part of a short run
    long = False  # whether to take one's time

    def __init__(self, transport, files):
        self.transport = transport
        self.files = files  # of images()
        self.guests = []
        self.stack = contextlib.ExitStack()
        self.dir = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="guest.")))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stack.close()

    def start(self):
        """Boots what the checks need; a check itself."""

    def launch(self, *arguments, **keys):
        """A guest with just these arguments."""
        guest = Guest(*arguments, **keys)
        self.guests.append(guest)
        self.stack.callback(guest.close)
        return guest

    def boot(self, *arguments, kernel=MACHINE.kernel, initrd="initramfs.cpio", words="",
             timeout=600, **keys):
        """A guest in which the agent runs, or will; words are for the kernel."""
        return self.launch("--kernel", self.files / kernel,
                           "--initrd", self.files / initrd,
                           "--transport", self.transport, "--timeout", timeout,
                           "--cmdline", f"quiet root= test=agent {words}",
                           *arguments, **keys)

    def tails(self):
        """For the report of a failure."""
        return [line for each in self.guests for line in each.tail()]

    def image(self, name, size):
        """An empty disk image."""
        path = self.dir / name
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    def mount(self, image):
        """A directory where a file system's image, which is the test's own, is mounted."""
        directory = image.with_suffix(".mounted")
        directory.mkdir()
        try:
            run("modprobe", "-q", "loop")
            run("mount", "-o", "loop", image, directory)
        except Failure as error:
            raise Skip(str(error)) from error
        self.stack.callback(run, "umount", "-l", directory)
        return directory

    @classmethod
    def name(cls):
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def checks(cls):
        return [name for name in vars(cls) if name.startswith("test_")]
