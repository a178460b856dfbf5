"""Python's standard streams, kept as text beside what they do.

For output that pytest does not capture: that of tests under `-s`, and what is printed after the last of them. A stream stays what
it was to whoever writes to it: a text stream over a buffer, no terminal, with the same descriptor. What is written to the
descriptor itself, by a child or a C library, is not seen here. PYTEST_DONT_REWRITE
"""

import io
import sys


class Buffer(io.BufferedIOBase):
    """Stands between a text stream and its buffer, and keeps what passes."""

    def __init__(self, below, kept):
        self.below = below
        self.kept = kept

    def write(self, data):
        self.kept.append(bytes(data))
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
        self.kept = []
        plain = getattr(sys, name)
        self.encoding = plain.encoding
        plain.flush()
        self.stream = io.TextIOWrapper(
            Buffer(plain.buffer, self.kept),
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
        data = b"".join(self.kept)
        self.kept.clear()
        return data.decode(self.encoding, "replace")


def both():
    """Both streams, of those that are text streams over a buffer."""
    return [Tee(name) for name in ("stdout", "stderr") if getattr(getattr(sys, name), "buffer", None) is not None]
