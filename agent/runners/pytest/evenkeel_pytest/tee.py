"""Python's standard streams, kept as text beside what they do.

For output that pytest does not capture: that of tests under `-s`, and what is printed after the last of them. A stream stays what
it was to whoever writes to it: a text stream over a buffer, no terminal, with the same descriptor. What is written to the
descriptor itself, by a child or a C library, is not seen here. PYTEST_DONT_REWRITE
"""

import collections
import io
import sys

from .text import TEXT_LIMIT

HALF = TEXT_LIMIT // 2 - (16 << 10)  # bytes that are kept of the beginning, and of the end; streams write up to 8 KiB at once


class Kept:
    """The bytes of one text; its middle left out where it is long, since what matters is at either end."""

    def __init__(self):
        self.head, self.tail = [], collections.deque()
        self.head_size = self.tail_size = self.left_out = 0

    def add(self, data):
        if self.head_size < HALF:
            self.head.append(data)
            self.head_size += len(data)
            return
        self.tail.append(data)
        self.tail_size += len(data)
        while self.tail_size - len(self.tail[0]) >= HALF:
            gone = len(self.tail.popleft())
            self.tail_size -= gone
            self.left_out += gone

    def text(self, encoding):
        head, tail = (b"".join(part).decode(encoding, "replace") for part in (self.head, self.tail))
        mark = f"\n[... {self.left_out} bytes left out by Evenkeel ...]\n" if self.left_out else ""
        return f"{head}{mark}{tail}"


class Buffer(io.BufferedIOBase):
    """Stands between a text stream and its buffer, and keeps what passes."""

    def __init__(self, below):
        self.below = below
        self.kept = Kept()

    def write(self, data):
        self.kept.add(bytes(data))
        return self.below.write(data)

    def flush(self):
        if not self.below.closed:
            self.below.flush()

    def __getattr__(self, name):  # mode, raw, name and the like
        return getattr(self.below, name)

    def fileno(self):
        return self.below.fileno()

    def isatty(self):
        return self.below.isatty()

    def writable(self):
        return True


class Tee:
    """Keeps what goes to sys.stdout or sys.stderr from now on."""

    def __init__(self, name):
        self.name = name
        plain = getattr(sys, name)
        self.encoding = plain.encoding
        plain.flush()
        self.buffer = Buffer(plain.buffer)
        self.stream = io.TextIOWrapper(
            self.buffer,
            encoding=plain.encoding,
            errors=plain.errors,
            newline="\n",
            line_buffering=plain.line_buffering,
            write_through=getattr(plain, "write_through", False),
        )
        self.stream.mode = getattr(plain, "mode", "w")
        setattr(sys, name, self.stream)

    def take(self):
        """What came since the last time."""
        if not self.stream.closed:
            self.stream.flush()
        kept, self.buffer.kept = self.buffer.kept, Kept()
        return kept.text(self.encoding)


def both():
    """Both streams, of those that are text streams over a buffer."""
    return [Tee(name) for name in ("stdout", "stderr") if getattr(getattr(sys, name), "buffer", None) is not None]
