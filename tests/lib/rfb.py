# SPDX-License-Identifier: Apache-2.0
"""A VNC viewer (RFC 6143) that takes pixels as they are, and types on a US keyboard."""
import socket
import struct

RAW, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE = 0, -223, -308
SHIFT, RETURN = 0xffe1, 0xff0d
SHIFTED = set('~!@#$%^&*()_+{}|:"<>?')


class Viewer:
    """What a head shows: lines of 4 bytes for each pixel."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(str(path))
        self.take("12s")
        self.sock.sendall(b"RFB 003.008\n")
        self.sock.recv(self.take("B")[0])
        self.sock.sendall(b"\1")
        assert self.take("I") == (0,)
        self.sock.sendall(b"\1")
        *size, _format, length = self.take("HH16sI")
        self.resize(*size)
        self.name = self.sock.recv(length).decode()
        self.send("BxHiii", 2, 3, RAW, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE)

    def close(self):
        self.sock.close()

    def send(self, form, *values):
        self.sock.sendall(struct.pack(">" + form, *values))

    def bytes(self, size):
        data = bytearray()
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            assert more, "the connection is closed"
            data += more
        return data

    def take(self, form):
        form = ">" + form
        return struct.unpack(form, self.bytes(struct.calcsize(form)))

    def resize(self, width, height):
        self.size = width, height
        self.lines = [bytearray(width * 4) for _ in range(height)]

    def rectangle(self):
        """Takes one; returns how many pixels were in it."""
        x, y, width, height, encoding = self.take("HHHHi")
        if encoding == EXTENDED_DESKTOP_SIZE:
            screens, = self.take("B3x")
            self.bytes(16 * screens)
        if encoding != RAW:
            if (width, height) != self.size:
                self.resize(width, height)
            return 0
        for line in self.lines[y:y + height]:
            line[x * 4:(x + width) * 4] = self.bytes(width * 4)
        return width * height

    def look(self):
        """Takes all of the picture anew."""
        size, missing = None, 1
        while missing > 0:
            if self.size != size:
                size, missing = self.size, self.size[0] * self.size[1]
                self.send("BBHHHH", 3, 0, 0, 0, *size)
            kind, count = self.take("BxH")
            assert kind == 0, kind
            missing -= sum(self.rectangle() for _ in range(count))

    def key(self, keysym, down):
        self.send("BBxxI", 4, down, keysym)

    def type(self, text):
        for character in text:
            keysym = RETURN if character == "\n" else ord(character)
            shift = character in SHIFTED or character.isupper()
            if shift:
                self.key(SHIFT, 1)
            self.key(keysym, 1)
            self.key(keysym, 0)
            if shift:
                self.key(SHIFT, 0)

    def ask_for_size(self, width, height):
        self.send("BxHHBxIHHHHI", 251, width, height, 1, 1, 0, 0, width, height, 0)

    def row(self, number, columns, cell):
        """The looks of the characters in a row of a text console."""
        width, height = cell
        lines = self.lines[number * height:(number + 1) * height]
        return [b"".join(line[n * width * 4:(n + 1) * width * 4] for line in lines)
                for n in range(columns)]
