"""One runner process and its socket: starting, sending, waiting with a deadline, ending.

What the lines mean is ledger.py's; this module judges the transport only.
"""

import array
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

from ledger import Ledger

LONGEST_LINE = 16 * 1024 * 1024
ECOSYSTEM = ("TEST_ENV_NUMBER", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT")


class Abandoned(Exception):
    """This scenario cannot go on; why is in the report already. `silent` says that a deadline passed."""

    def __init__(self, silent=False):
        super().__init__()
        self.silent = silent


class NoSuchRunner(Exception):
    """The command could not be started at all."""


class Session:
    """A context manager: on leaving, the runner's process group is gone and so is the socket's directory."""

    def __init__(self, command, cwd, timeout, report, scenario, expect, timings, slot=0, slots=1, limit=None, role=None):
        self.command, self.cwd, self.timeout, self.report, self.scenario = command, cwd, timeout, report, scenario
        self.slot, self.slots, self.limit, self.role = slot, slots, limit, role
        self.ledger = Ledger(report, scenario, expect, timings, self.owns, limit)
        self.process = self.connection = None
        self.connector = 0
        self.buffer, self.scanned = bytearray(), 0
        self.ended = False
        self.status = None
        self.last_heard = time.monotonic()

    def __enter__(self):
        parent = "/tmp" if os.access("/tmp", os.W_OK) else None
        self.directory = tempfile.mkdtemp(prefix="ek-", dir=parent)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = os.path.join(self.directory, "s")
        self.listener.bind(path)
        self.listener.listen(4)
        if hasattr(socket, "SO_PASSCRED"):
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENKEEL_") and name not in ECOSYSTEM}
        environment.update(EVENKEEL_SOCKET=path, EVENKEEL_RUN_ID="conformance", EVENKEEL_SEED="4611686018427387905",
                           EVENKEEL_SLOT=str(self.slot), EVENKEEL_SLOTS=str(self.slots))
        if self.slots > 1:
            environment.update(zip(ECOSYSTEM, ("" if self.slot == 0 else str(self.slot + 1), f"gw{self.slot}", str(self.slots))))
        if self.limit:
            environment.update(EVENKEEL_MAX_FAIL=str(self.limit))
        if self.role:
            environment.update(EVENKEEL_ROLE=self.role)
        self.log = open(os.path.join(self.directory, "log"), "w+b")
        try:
            self.process = subprocess.Popen(self.command, cwd=self.cwd, env=environment, stdin=subprocess.DEVNULL,
                                            stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            self.close()
            raise NoSuchRunner(f"cannot start {self.command[0]!r}: {error.strerror}") from error
        self.limit = time.monotonic() + 20 * self.timeout
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            self.process.wait()
        if self.connection:
            self.connection.close()
        self.listener.close()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def owns(self, pid):
        """Whether `pid` is alive, and the process that was started or one below it."""
        try:
            if os.getsid(pid) == self.process.pid:
                return True
        except (OSError, OverflowError):
            return False
        while pid > 1:
            if pid == self.process.pid:
                return True
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    pid = int(stat.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                return False
        return False

    def log_tail(self, limit=1500):
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - limit))
        return self.log.read().decode("utf-8", "replace").strip()

    def rule(self, rule, holds, saw, line=""):
        self.report.check(rule, holds, self.scenario, saw, line)
        return holds

    # Waiting

    def wait(self, ready, rule, what):
        """Reads until `ready()`; silence for `timeout` seconds, or the runner's end, breaks `rule`."""
        self.last_heard = time.monotonic()
        while not ready():
            if self.ledger.refused:
                self.leave_refused()
            if self.ended:
                idle = self.ledger.last_wish[0] == "idle" and self.ledger.all_closed()
                self.rule("idle" if idle else rule, False, f"the runner left, {self.farewell()}, while it owed {what}")
                raise Abandoned()
            now = time.monotonic()
            if now > min(self.last_heard + self.timeout, self.limit):
                self.rule(rule, False, f"the runner owes {what}; waited {self.timeout:g} s")
                raise Abandoned(silent=True)
            if self.ledger.waiting:
                self.send({"op": "idle"})
            self.pump()
        self.rule(rule, True, "")

    def leave_refused(self):
        message = f"{self.ledger.refused['reason']}: {self.ledger.refused['message']}"
        self.rule("hello-first" if self.ledger.hello is None else "listed", False, f"the runner refused: {message}")
        self.await_end()
        self.rule("refused", self.status is not None, "the runner refused and did not exit")
        raise Abandoned()

    def farewell(self):
        self.await_end()
        if self.status is None:
            return "still alive but off the socket"
        return f"killed by signal {-self.status}" if self.status < 0 else f"with exit status {self.status}"

    def await_end(self):
        """Reads what still comes until the process has exited, or the deadline has passed."""
        deadline = min(time.monotonic() + self.timeout, self.limit)
        while time.monotonic() < deadline:
            if not self.ended:
                self.pump()
            elif self.process.poll() is None:
                try:
                    self.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    break
            else:
                break
        self.status = self.process.poll()

    def pump(self, outgoing=None, pause=0.05):
        """Reads once what is there, or waits `pause` seconds for it; returns how much of `outgoing` was written."""
        gone = self.process.poll() is not None
        readers = [self.listener] + ([self.connection] if self.connection and not self.ended else [])
        writers = [self.connection] if outgoing and self.connection else []
        readable, writable, _ = select.select(readers, writers, [], pause)
        if self.listener in readable:
            self.accept()
        heard = self.connection is not None and self.connection in readable
        if heard:
            self.read()
        elif gone and self.listener not in readable:
            self.end()
        if not writable:
            return 0
        try:
            return self.connection.send(outgoing)
        except BlockingIOError:
            return 0
        except OSError:
            return len(outgoing)

    def accept(self):
        connection, _ = self.listener.accept()
        if not self.rule("connect-once", self.connection is None, "a second connection") and self.connection:
            connection.close()
            return
        connection.setblocking(False)
        if hasattr(socket, "SO_PASSCRED"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            self.connector = struct.unpack("iII", peer)[0]
        self.connection = connection

    def read(self):
        seen_us = time.monotonic_ns() // 1000
        try:
            data, extras, _, _ = self.connection.recvmsg(1 << 20, 256)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, extras = b"", []
        for level, kind, payload in extras:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_RIGHTS:
                for descriptor in array.array("i", payload[:len(payload) // 4 * 4]):
                    os.close(descriptor)
            elif kind == getattr(socket, "SCM_CREDENTIALS", None) and data:
                writer = struct.unpack("iII", payload[:12])[0]
                # 0 is a process outside this pid namespace, or one that wrote before credentials were switched on.
                if writer and self.connector:
                    self.rule("one-writer", writer == self.connector, f"process {writer} wrote on the socket that process {self.connector} connected", data[:160].decode("utf-8", "replace"))
        if not data:
            self.end()
            return
        if self.ledger.bye:
            self.rule("bye-last", False, "output on the socket after `bye`", data[:160].decode("utf-8", "replace"))
        self.last_heard = time.monotonic()
        self.buffer += data
        while True:
            cut = self.buffer.find(b"\n", self.scanned)
            if cut < 0:
                self.scanned = len(self.buffer)
                break
            line = bytes(self.buffer[:cut])
            del self.buffer[:cut + 1]
            self.scanned = 0
            self.take(line, seen_us)
        if len(self.buffer) > LONGEST_LINE:
            self.rule("line-length", False, f"a line of more than {LONGEST_LINE} bytes")
            raise Abandoned()

    def take(self, line, seen_us):
        self.rule("line-length", len(line) <= LONGEST_LINE, f"a line of {len(line)} bytes")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            self.rule("utf8", False, f"invalid UTF-8 at byte {error.start} of a line", line[:160].decode("utf-8", "replace"))
            return
        self.rule("utf8", True, "")
        try:
            event = json.loads(text, parse_constant=no_constant)
        except ValueError as error:
            self.rule("json-line", False, f"a line that is not JSON: {error}", text)
            return
        if self.rule("json-line", isinstance(event, dict), "a line that is not an object", text) or isinstance(event, dict):
            self.ledger.received(event, text, seen_us)

    def end(self):
        if not self.ended:
            self.ended = True
            if self.connection:
                self.rule("json-line", not self.buffer, "the last line has no line end", self.buffer[:160].decode("utf-8", "replace"))

    # Sending

    def send(self, *operations):
        """Sends the operations in one write, as far as the socket takes it."""
        self.ledger.sent(operations)
        self.send_bytes(encode(*operations))

    def send_bytes(self, data):
        deadline = time.monotonic() + self.timeout
        view = memoryview(data)
        while view and not self.ended and time.monotonic() < deadline:
            view = view[self.pump(view):]

    def send_malformed(self, operation):
        self.send_bytes(encode(operation))

    # Steps that all scenarios share

    def greet(self):
        self.wait(lambda: self.connection is not None, "connect-once", "a connection to EVENKEEL_SOCKET")
        self.wait(lambda: self.ledger.hello is not None, "hello-first", "`hello`")

    def list(self):
        """Asks for the units and returns their names."""
        self.send({"op": "list"})
        self.wait(lambda: self.ledger.listing == "done", "listed", "the last chunk of `listed`")
        return [unit["unit"] for unit in self.ledger.units]

    def wait_closed(self, rule="close-last"):
        self.wait(self.ledger.all_closed, rule, "the `close` of every lease, or `waiting`")

    def stop(self):
        """Sends `stop` and judges the end."""
        self.send({"op": "stop"})
        self.wait(lambda: self.ledger.bye, "bye-sent", "`bye`, after `stop`")
        self.await_end()
        if self.status is None:
            self.rule("exit-zero", False, f"the process is alive {self.timeout:g} s after `bye`")
            raise Abandoned(silent=True)
        self.rule("bye-last", True, "")
        self.rule("exit-zero", self.status == 0, f"after `bye`: {self.farewell()}")

    def refuse_operation(self, operation):
        """Sends what no runner may take; it has to end, not with status 0."""
        self.send_malformed(operation)
        sent = json.dumps(operation)
        self.await_end()
        if self.status is None:
            self.rule("protocol-error", False, f"the runner goes on after {sent}; waited {self.timeout:g} s")
            raise Abandoned(silent=True)
        self.rule("protocol-error", self.status != 0, f"the runner ends with status 0 after {sent}")


def encode(*operations):
    return "".join(json.dumps(operation, ensure_ascii=False) + "\n" for operation in operations).encode()


def no_constant(name):
    raise ValueError(f"{name} is not JSON")
