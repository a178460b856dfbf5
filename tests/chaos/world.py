"""What a round consists of: a coordinator, agents, runs and who waits for them, each a process of its own.

Every process, however deep, bears the round's mark in its environment. By it what was left behind is found, and ended by its pid.
"""

import heapq
import os
import signal
import subprocess
import time
from pathlib import Path

MARK = "EVENKEEL_CHAOS"
# Nothing that is told to end takes as long.
PATIENCE = 45.0


class Wrong(Exception):
    """The product did what it must not."""


class Process:
    def __init__(self, world, name, words, space=None, logs=None):
        self.name, self.space, self.stopped = name, space, False
        self.log = (logs or world.directory) / f"{name}.err"
        self.out = world.directory / f"{name}.out"
        if space:
            words = ["ip", "netns", "exec", space, *words]
        with open(self.out, "ab") as out, open(self.log, "ab") as log:
            self.child = subprocess.Popen(words, stdout=out, stderr=log, stdin=subprocess.DEVNULL, cwd=world.directory,
                                          env=world.environment, start_new_session=True)

    @property
    def pid(self):
        return self.child.pid

    def lives(self):
        return self.child.poll() is None

    def signal(self, number):
        if self.lives():
            os.kill(self.pid, number)
            self.stopped = number == signal.SIGSTOP

    def said(self):
        return self.log.read_text(errors="replace")

    def end(self, number, within=PATIENCE):
        """Tells it to end; its exit status, or what kept it."""
        if self.stopped:
            self.signal(signal.SIGCONT)
        self.signal(number)
        try:
            return self.child.wait(within)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{self.name} does not end within {within:.0f} s of signal {number}") from None


class Client:
    """A run, and who waits for it."""

    def __init__(self, world, name, words, plan):
        self.name, self.words, self.plan = name, words, plan
        self.process, self.code, self.starts = None, None, 0
        self.world = world
        self.start()

    def files(self):
        return {kind: self.world.directory / f"{self.name}.{kind}" for kind in ("json", "junit", "events")}

    def start(self, watch=False):
        self.starts += 1
        reports = [word for kind, path in self.files().items() for word in (f"--{kind}", str(path))]
        begin = ["watch", self.name] if watch else ["run", "--run-id", self.name]
        words = [*begin, "--coordinator", self.world.address, *self.world.trust, *reports]
        self.process = self.world.start(f"{self.name}-{self.starts}", words + ([] if watch else self.words))
        self.code = None

    def look(self):
        """Whether it has ended. Who comes again when the run is over is refused, and watches it then."""
        if self.code is None and not self.process.lives():
            self.code = self.process.child.returncode
            self.begun = self.world.begun
            if self.code == 2 and self.starts > 1 and "exists already" in self.process.said():
                self.start(watch=True)
        return self.code is not None

    def unrecorded(self):
        """Whether it was told that the run's record could not be written."""
        return self.code in (1, 3) and self.world.filled and "could not be written" in self.process.said()


class World:
    def __init__(self, directory, options, rng, mark):
        self.directory, self.options, self.rng = Path(directory), options, rng
        self.directory.mkdir(parents=True)
        self.state = self.directory / "state"
        self.state.mkdir()
        (self.directory / "tmp").mkdir()
        self.mark = mark
        self.environment = {**os.environ, MARK: mark, "TMPDIR": str(self.directory / "tmp"),
                            "XDG_CACHE_HOME": str(self.directory / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
        for name in ("PYTEST_ADDOPTS", "PYTHONHASHSEED", "PYTHONPATH"):
            self.environment.pop(name, None)
        self.listen, self.trust, self.lost_after = "127.0.0.1:0", [], "2s"
        self.store = f"sqlite:{self.state}/evenkeel.db"
        self.coordinator = self.address = None
        # The coordinator is down and will be started again; until when something was out of its reach, None where it still is.
        self.resting, self.broken = False, {}
        self.agents, self.clients, self.all, self.begun = [], [], [], 0
        self.disk = False
        self.later, self.order, self.cleanups = [], 0, []
        self.told = []
        self.began = time.monotonic()

    def tell(self, text):
        self.told.append(f"{time.monotonic() - self.began:7.2f}  {text}")
        if self.options.verbose:
            print("   ", self.told[-1], flush=True)

    def start(self, name, words, space=None, logs=None):
        process = Process(self, name, [self.options.binary, *words], space, logs)
        self.all.append(process)
        return process

    # ---------------------------------------------------------------- what happens later

    def after(self, seconds, what):
        self.order += 1
        heapq.heappush(self.later, (time.monotonic() + seconds, self.order, what))

    def due(self):
        while self.later and self.later[0][0] <= time.monotonic():
            heapq.heappop(self.later)[2]()

    # ---------------------------------------------------------------- who takes part

    def start_coordinator(self):
        """Starts one and does not wait for it. Its log is where its state is, so that a full disk is full for both."""
        self.begun += 1
        name = f"coordinator-{self.begun}"
        words = ["coordinator", "--listen", self.listen, "--store", self.store, "--state", str(self.state), "--lost-after", self.lost_after]
        self.coordinator = self.start(name, words + self.trust, logs=self.state)
        self.coordinator.since = time.monotonic()
        self.coordinator.up = False

    def first_coordinator(self):
        """Starts one and waits for its address. The port that it found is its own from then on, also when it comes again."""
        self.start_coordinator()
        while not self.is_up():
            if not self.coordinator.lives():
                raise Wrong(f"{self.coordinator.name} does not come up: {self.coordinator.said()}")
            time.sleep(0.005)
        self.address = self.listen = self.coordinator.out.read_text().split()[2]

    def is_up(self):
        """Whether the coordinator listens."""
        coordinator = self.coordinator
        if not coordinator.up:
            said = coordinator.out.read_text()
            coordinator.up = said.startswith("listening on ") and said.endswith("\n")
            if not coordinator.up and not coordinator.stopped and time.monotonic() > coordinator.since + PATIENCE:
                raise Wrong(f"{coordinator.name} does not come up: {coordinator.said()}")
        return coordinator.up

    def supervise(self):
        """What a supervisor does: a coordinator that could not reach its store is started again."""
        coordinator = self.coordinator
        if coordinator.lives():
            self.is_up()
        elif coordinator.child.returncode == 3 and self.hindered():
            self.tell(f"{coordinator.name} cannot reach its store, and is started again")
            self.after(0.5, self.start_again)
            self.resting = True
        elif not self.resting:
            raise Wrong(f"{coordinator.name} ended with {coordinator.child.returncode}: {coordinator.said()}")

    def hindered(self):
        """Whether the store has been out of reach since the coordinator was started."""
        since = self.coordinator.since
        return not self.resting and any(until is None or until >= since for until in self.broken.values())

    def start_again(self):
        self.resting = False
        self.start_coordinator()

    def start_agent(self, name, slots, space=None):
        words = ["agent", "--coordinator", self.address, "--name", name.partition("+")[0], "--slots", str(slots), *self.trust]
        agent = self.start(name, words, space)
        agent.slots = slots
        self.agents.append(agent)

    def start_client(self, name, words, plan):
        self.clients.append(Client(self, name, words, plan))

    def running(self):
        return [agent for agent in self.agents if agent.lives() and not agent.stopped]

    # ---------------------------------------------------------------- the end

    def marked(self):
        """Pids of all processes that bear the mark, with their command lines."""
        mark = f"{MARK}={self.mark}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    pass
        return found

    def dies_out(self, within):
        deadline = time.monotonic() + within
        while self.marked() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.marked()

    def destroy(self):
        """Nothing stays: neither process nor mount nor network."""
        deadline = time.monotonic() + 10
        while self.marked() and time.monotonic() < deadline:
            for pid in self.marked():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            for process in [*self.agents, self.coordinator, *(client.process for client in self.clients)]:
                if process:
                    process.child.poll()
            time.sleep(0.01)
        for cleanup in reversed(self.cleanups):
            cleanup()
