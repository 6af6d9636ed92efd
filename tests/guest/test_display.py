# SPDX-License-Identifier: Apache-2.0
"""A guest with a screen and a keyboard, and somebody who looks and types through VNC."""
from guest import Group, equal, until
from rfb import Viewer
from test_gpu import CELL, Graphics, needs_a_display


class Display(Graphics, Group):
    """A text console."""

    transports = short = "pci",
    text = 'Typed: {1+1=2} ~"&_'

    def start(self):
        needs_a_display()
        self.vm = self.boot("--gpu", f"size=640x480,display=vnc:{self.dir}/screen",
                            "--input", "keyboard", "--input", "tablet", "--memory", "512M",
                            "--name", "screened", **self.kernel()).ready()
        self.viewer = Viewer(self.dir / "screen")
        self.stack.callback(self.viewer.close)
        equal(self.viewer.name, "screened")

    def row(self, number):
        """What the viewer shows in a row of the console."""
        self.viewer.look()
        equal(self.viewer.size, (640, 480))
        return self.viewer.row(number, len(self.text), CELL)

    def takes(self, text):
        """What is typed at once is what the guest reads, however slow it is."""
        self.vm.sh(r"printf '\033[2J\033[H\033[?25l' >/dev/tty1; "
                   "head -n 1 </dev/tty1 >/tmp/typed 2>/dev/null & sleep 1")
        self.viewer.type(text + "\n")
        until(lambda: self.vm.sh("cat /tmp/typed") == text, 120)

    def test_takes_a_page_at_once(self):
        until(lambda: "microvm keyboard" in self.vm.sh("cat /sys/class/input/input*/name"))
        self.takes("".join(f"{n}: {self.text}; " for n in range(40)))

    def test_takes_what_is_typed(self):
        self.takes(self.text)

    def test_shows_what_was_typed(self):
        """The echo looks like the same text that is written."""
        self.vm.sh("(echo; echo; cat /tmp/typed) >/dev/tty1")
        self.vm.sh("dd if=/dev/vcs1 bs=80 skip=3 count=1 2>/dev/null | grep -qF 'Typed: '")
        until(lambda: self.row(3) == self.row(0))
        assert len(set(self.row(0))) > 15

    def test_asks_for_a_size(self):
        """Linux' console asks for no mode that is larger than its own; whoever looks anew does."""
        self.viewer.ask_for_size(1360, 768)
        until(lambda: self.vm.sh("cd /sys/class/drm/card0-Virtual-1; echo detect >status; "
                                 "head -n 1 modes") == "1360x768")

    def test_powers_off_with_0(self):
        equal(self.vm.power_off(), 0)
        assert not (self.dir / "screen").exists()
