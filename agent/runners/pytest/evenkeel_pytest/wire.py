"""The socket to the agent, and the clock by which events are dated.

Owns bytes and lines. What a line means is conversation.py's. PYTEST_DONT_REWRITE
"""

import os
import socket
import time
from socket import MSG_DONTWAIT


def now(clock=time.monotonic_ns):
    """Microseconds. The clock is bound early: freezegun and its kin replace what they find in a module's globals."""
    return clock() // 1000


class Wire:
    """The socket. Only the process that opened it may use it: a child that a test forks has the descriptor too, and whatever
    it sends would be taken for ours."""

    def __init__(self, address):
        self.pid = os.getpid()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(address)
        # Bound early: tests replace what they find in the class.
        self.take = self.socket.recv
        self.give = self.socket.sendall
        self.out = []
        self.rest = b""

    def ours(self, getpid=os.getpid):
        return getpid() == self.pid

    def push(self, line):
        """Takes a line to send later: an `end` and the `start` behind it share a system call."""
        self.out.append(line)

    def flush(self):
        """Sends what was pushed. An OSError means that the agent has gone."""
        if self.out and self.ours():
            data = "".join(self.out).encode("utf-8", "replace")
            self.out.clear()
            self.give(data)

    def receive(self, wait):
        """The complete lines that have come, as bytes; none if there are none and it may not wait. EOFError: the agent has gone."""
        try:
            data = self.take(1 << 16, 0 if wait else MSG_DONTWAIT)
        except BlockingIOError:
            return ()
        except OSError:
            data = b""
        if not data:
            raise EOFError
        *lines, self.rest = (self.rest + data).split(b"\n")
        return lines
