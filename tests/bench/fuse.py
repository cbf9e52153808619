# SPDX-License-Identifier: Apache-2.0
"""A filesystem that can be frozen: an empty root directory, served over /dev/fuse (fuse(4), linux/fuse.h).

Run as a program: `fuse.py MOUNTPOINT`, then a word per line on standard input. `deaf`: requests are no longer taken, so
that whoever asked can still be killed. `mute`: they are taken and not answered, so that whoever asked sleeps and cannot
be killed, as with a hard NFS mount whose server is gone. `well`: everything is answered, also what was asked meanwhile.
"""

import ctypes
import errno
import os
import selectors
import stat
import struct
import sys
from typing import Final

_LOOKUP: Final = 1
_FORGET: Final = 2
_GETATTR: Final = 3
_STATFS: Final = 17
_INIT: Final = 26
_OPENDIR: Final = 27
_READDIR: Final = 28
_RELEASEDIR: Final = 29
_ACCESS: Final = 34
_INTERRUPT: Final = 36
_UNANSWERED: Final = frozenset({_FORGET, _INTERRUPT})
_HEADER: Final = struct.Struct("<IIQQIIII")
_BUFFER: Final = 1 << 17
_ROOT: Final = 1


def answer(opcode: int, node: int) -> bytes | int:
    """What an empty directory says to a request: the answer's body, or an errno."""
    match opcode:
        case 26:
            return struct.pack("<IIIIHHIIHH8I", 7, 31, 0, 0, 16, 12, 4096, 1, 0, 0, *[0] * 8)
        case 3 if node == _ROOT:
            times = (0, 0, 0, 0, 0, 0)
            return struct.pack("<QII6Q", 0, 0, 0, _ROOT, 0, 0, *times[:3]) + struct.pack(
                "<IIIIIIIIII", *times[3:], stat.S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0
            )
        case 17:
            return struct.pack("<5Q4I6I", 1 << 20, 1 << 19, 1 << 19, 1 << 16, 1 << 15, 4096, 255, 4096, 0, *[0] * 6)
        case 27:
            return struct.pack("<QII", 0, 0, 0)
        case 28 | 29 | 34:
            return b""
        case 1:
            return errno.ENOENT
        case _:
            return errno.ENOSYS


def mount(point: str) -> int:
    """Mount it; the descriptor on which the kernel asks."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"frozen0", point.encode(), b"fuse", 0, data.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), point)
    return device


class Server:
    """Answers what the kernel asks, as long as it is well."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._owed: list[tuple[int, int, int]] = []
        self.state = "well"

    def serve(self) -> None:
        """Take one request."""
        try:
            data = os.read(self._device, _BUFFER)
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise SystemExit(0) from None  # unmounted
            raise
        _, opcode, unique, node, *_ = _HEADER.unpack_from(data)
        if opcode in _UNANSWERED:
            return
        if self.state == "mute":
            self._owed.append((opcode, unique, node))
        else:
            self._reply(opcode, unique, node)

    def become(self, state: str) -> None:
        """Change; whoever is well again answers what is owed."""
        self.state = state
        while state == "well" and self._owed:
            self._reply(*self._owed.pop(0))

    def _reply(self, opcode: int, unique: int, node: int) -> None:
        said = answer(opcode, node)
        body, error = (b"", -said) if isinstance(said, int) else (said, 0)
        try:
            os.write(self._device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        except FileNotFoundError:
            return  # whoever asked was interrupted, and the kernel no longer knows of it


def main() -> None:
    """Serve until the filesystem is unmounted or the input ends."""
    device = mount(sys.argv[1])
    server, watch = Server(device), selectors.DefaultSelector()
    watch.register(device, selectors.EVENT_READ)
    watch.register(0, selectors.EVENT_READ)
    print("mounted", flush=True)
    while True:
        for key, _ in watch.select():
            if key.fd == device:
                server.serve()
                continue
            word = os.read(0, 100).decode().split()
            if not word:
                return
            was_deaf = server.state == "deaf"
            server.become(word[-1])
            if server.state == "deaf" and not was_deaf:
                watch.unregister(device)
            elif was_deaf and server.state != "deaf":
                watch.register(device, selectors.EVENT_READ)
            print(word[-1], flush=True)


if __name__ == "__main__":
    main()
