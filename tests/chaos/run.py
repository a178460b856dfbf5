#!/usr/bin/env python3
"""Rounds of a coordinator, agents and runs among which things go wrong at random moments, each checked by check.py.

  tests/chaos/run.py --rounds 50 --seed 1 --store both

A line is printed for each round. One that fails keeps its directory, and the command that repeats it is printed. Faults that need rights
which are not there are left out, and it is said once which.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import faults
import reading
import suites
from world import Client, World, Wrong

HERE = Path(__file__).resolve().parent
# A round without anything that lasts longer is over by then.
ROUND = 90.0


def submitted(client):
    """Whether the coordinator has the run."""
    return client.files()["events"].exists() and client.files()["events"].stat().st_size > 0


Client.submitted = submitted


class Round:
    def __init__(self, options, number, skipped):
        self.options, self.seed, self.skipped = options, options.seed + number, skipped
        self.rng = random.Random(f"{self.seed} {options.store}")
        # Short, since sockets are made below it.
        directory = Path(tempfile.mkdtemp(prefix=f"ekc{self.seed}-", dir=options.directory))
        self.world = World(directory / "w", options, self.rng, f"{self.seed}-{directory.name}")
        self.directory, self.number = directory, number
        self.faults, self.runs = Counter(), []

    def place(self):
        """Where the round takes place, and what can go wrong there."""
        world, rng, drawn = self.world, self.rng, list(faults.FAULTS)
        world.network = world.server = None
        world.cut = world.filled = world.slept = False
        world.count = 0
        world.long = self.options.long and self.seed % 10 == 0
        if self.options.store == "postgres":
            faults.with_postgres(world)
            drawn += [faults.restart_postgres] * 3
        if self.seed % 4 == 1 and self.has("a full disk", faults.with_a_small_disk(world)):
            drawn += [faults.fill_the_disk] * 3
        if self.seed % 2 == 0 and self.has("a cut network", faults.with_a_network(world, self.seed)):
            drawn += [faults.cut_the_network] * 3
        return drawn

    def has(self, what, hindered):
        if hindered:
            self.skipped.setdefault(what, hindered)
        return not hindered

    def play(self):
        world, rng = self.world, self.rng
        drawn = self.place()
        world.first_coordinator()
        slots = [rng.randint(1, 3) for _ in range(rng.randint(3, 4))]
        for number, count in enumerate(slots):
            world.start_agent(f"agent{number}", count, world.network[0] if world.network and number == 0 else None)
        world.count = len(slots)
        self.submit()
        for _ in range(rng.randint(3, 6)):
            fault = rng.choice(drawn)
            world.after(rng.uniform(0.1, 4.5), lambda fault=fault: self.happen(fault))
        if world.long:
            world.after(0.5, lambda: self.happen(faults.stop_an_agent))
        self.wait()
        self.watch_again()
        self.close()

    def submit(self):
        world, rng = self.world, self.rng
        kinds = rng.choice((["noop"], ["pytest"], ["noop", "pytest"], ["noop", "noop"], ["pytest", "noop"]))
        if not self.options.python:
            kinds = ["noop"] * len(kinds)
        for number, kind in enumerate(kinds):
            name = f"run{number}"
            words, plan, what = suites.noop(world, rng) if kind == "noop" else suites.pytest(world, rng, name)
            self.runs.append(what)
            (world.directory / f"{name}.plan").write_text(json.dumps(plan))
            world.start_client(name, words, plan)

    def happen(self, fault):
        if any(not client.look() for client in self.world.clients) and fault(self.world, self.rng) is not False:
            self.faults[fault.__name__] += 1

    def wait(self):
        """Until all runs have ended and everything that broke is mended."""
        world = self.world
        deadline = time.monotonic() + ROUND + (70 if world.long else 0)
        while not all([client.look() for client in world.clients]) or world.later or not world.coordinator.up:
            world.due()
            if time.monotonic() > deadline:
                waits = [client.name for client in world.clients if not client.look()]
                raise Wrong(f"no end of {', '.join(waits) or 'the round'} in sight")
            world.supervise()
            self.look_at_agents()
            time.sleep(0.01)

    def look_at_agents(self):
        for agent in self.world.agents:
            code = agent.child.poll()
            if code not in (None, 0, -signal.SIGKILL):
                raise Wrong(f"{agent.name} ended with {code}")
            if code == 0 and not getattr(agent, "told", False):
                raise Wrong(f"{agent.name} left unasked")

    def watch_again(self):
        """Who was told that a run could not be recorded asks once more, when its ledger has its end: that says what was told, unless
        another coordinator has gone on with the run meanwhile."""
        world = self.world
        untold = [client for client in world.clients if client.unrecorded()]
        if not untold:
            if any(client.code == 3 for client in world.clients):
                raise Wrong("a run is incomplete, and that is not for want of room")
            return
        self.faults["runs that could not be recorded"] += len(untold)
        deadline = time.monotonic() + ROUND
        while not all(self.is_recorded(client) for client in untold):
            world.due()
            world.supervise()
            if time.monotonic() > deadline:
                raise Wrong("the end of a run that could not be recorded does not come into its ledger")
            time.sleep(0.05)
        for client in untold:
            told, begun = client.code, client.begun
            client.start(watch=True)
            self.wait()
            if client.code != told and world.begun == begun:
                raise Wrong(f"{client.name} was told {told}, and {client.code} when it asked again: {client.process.said()}")

    def is_recorded(self, client):
        try:
            line, _ = reading.run(self.world.store, client.name)
        except reading.Unreadable:
            return False
        return line[1] is not None

    def close(self):
        world = self.world
        for agent in world.agents:
            if agent.lives():
                agent.told = True
                agent.signal(signal.SIGTERM)
        for agent in world.agents:
            code = agent.end(0)
            # One that had only just been started did not listen for signals yet.
            early = code == -signal.SIGTERM and "offers" not in agent.said()
            if code not in (0, -signal.SIGKILL) and not early:
                raise Wrong(f"{agent.name} was told to go and ended with {code}")
        if world.coordinator.end(signal.SIGTERM) != 0:
            raise Wrong(f"the coordinator was told to end and ended with {world.coordinator.child.returncode}")
        checked = world.start("store-check", ["store", "check", "--store", world.store, "--state", str(world.state)])
        if checked.child.wait() != 0:
            raise Wrong(f"the store is damaged: {checked.said()}{checked.out.read_text()}")
        for client in world.clients:
            self.check(client)
        left = world.dies_out(10)
        if left:
            raise Wrong(f"left behind: {left}")
        for process in world.all:
            if "panicked at" in process.said():
                raise Wrong(f"{process.name} panicked: {process.said()}")

    def check(self, client):
        world = self.world
        files = [word for kind, path in client.files().items() for word in (f"--{kind}", path)]
        words = [sys.executable, HERE / "check.py", "--store", world.store, "--state", world.state, "--run", client.name,
                 "--plan", world.directory / f"{client.name}.plan", "--exit", str(client.code), *files]
        checked = subprocess.run(words, capture_output=True, text=True)
        if checked.returncode:
            found = checked.stdout.splitlines()
            shown = "\n".join([*found[:20], *[f"… and {len(found) - 20} more"][: len(found) > 20]])
            raise Wrong(f"{client.name} ended with {client.code}:\n{shown}\n{checked.stderr}")
        if client.code not in (0, 1) and not client.unrecorded():
            raise Wrong(f"{client.name} ended with {client.code}:\n{client.process.said()}")
        self.runs.append(checked.stderr.strip().split(", ", 4)[-1])


def one(options, number, skipped):
    began = time.monotonic()
    this = Round(options, number, skipped)
    wrong = None
    try:
        this.play()
    except (Wrong, OSError, KeyboardInterrupt) as error:
        wrong = error
        if this.world.disk:
            shutil.copytree(this.world.state, this.world.directory / "disk", ignore=shutil.ignore_patterns("ballast"), dirs_exist_ok=True)
    finally:
        this.world.destroy()
    took = time.monotonic() - began
    said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(this.faults.items())) or "nothing went wrong"
    state = "FAILED" if wrong else "ok"
    print(f"round {number + 1} (seed {this.seed}, {options.store}): {state} in {took:.1f} s; {', '.join(this.runs)}; {said}", flush=True)
    if wrong:
        print(f"  {type(wrong).__name__}: {wrong}")
        print("".join(f"  {line}\n" for line in this.world.told), end="")
        print(f"  kept: {this.world.directory}")
        print(f"  again: {sys.argv[0]} --rounds 1 --seed {this.seed} --store {options.store}{' --no-long' * (not options.long)} --verbose", flush=True)
    elif options.keep:
        print(f"  kept: {this.world.directory}")
    else:
        shutil.rmtree(this.directory, ignore_errors=True)
    if isinstance(wrong, KeyboardInterrupt):
        raise wrong
    return not wrong, this.faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=("sqlite", "postgres", "both"), default="sqlite", help="both: as many rounds on each")
    parser.add_argument("--long", action=argparse.BooleanOptionalAction, default=True,
                        help="in every tenth round an agent is stopped for a minute")
    parser.add_argument("--binary", default=str(HERE.parents[1] / "target/debug/evenkeel"))
    parser.add_argument("--python", default=sys.executable, help="a Python that has pytest; empty: no suite of pytest is run")
    parser.add_argument("--directory", default=None, help="where rounds have their directories [default: the temporary directory]")
    parser.add_argument("--keep", action="store_true", help="keep the directory of each round")
    parser.add_argument("--verbose", action="store_true", help="say what happens as it happens")
    options = parser.parse_args()
    if options.python and subprocess.run([options.python, "-c", "import pytest"], capture_output=True).returncode:
        print(f"{options.python} has no pytest: only the runner that does nothing takes part")
        options.python = ""
    stores = ("sqlite", "postgres") if options.store == "both" else (options.store,)
    return 0 if all([rounds(options, store) for store in stores]) else 1


def rounds(options, store):
    """All rounds on one store; whether all were good."""
    options.store = store
    good, counts, skipped = 0, Counter(), {}
    for number in range(options.rounds):
        told = len(skipped)
        fine, happened = one(options, number, skipped)
        good += fine
        counts.update(happened)
        for what, why in list(skipped.items())[told:]:
            print(f"  without {what}: {why}")
    total = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(counts.items()))
    print(f"{good} of {options.rounds} rounds on {store} are good; {total}", flush=True)
    return good == options.rounds


if __name__ == "__main__":
    sys.exit(main())
