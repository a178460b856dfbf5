"""What goes wrong in a round. Each fault is a function on the world; what it breaks it mends later by itself."""

import os
import signal
import subprocess
import time

import postgres
from world import Wrong


def kill_an_agent(world, rng):
    agent = _one(world, rng)
    if not agent:
        return False
    agent.end(signal.SIGKILL)
    world.tell(f"{agent.name} is killed")
    _another(world, rng, agent)


def terminate_an_agent(world, rng):
    agent = _one(world, rng)
    # One that has just been started does not listen for signals yet.
    if not agent or not world.coordinator.lives() or world.coordinator.stopped:
        return False
    world.tell(f"{agent.name} is told to go")
    agent.signal(signal.SIGTERM)
    agent.told = True
    _another(world, rng, agent)


def stop_an_agent(world, rng):
    agent = _one(world, rng)
    if not agent:
        return False
    seconds = 60 if world.long and not world.slept else rng.choice((1, 1.5, 2.2, 3, 3, 4, 6))
    world.slept = True
    agent.signal(signal.SIGSTOP)
    world.tell(f"{agent.name} is stopped for {seconds} s")
    world.after(seconds, lambda: (world.tell(f"{agent.name} goes on"), agent.signal(signal.SIGCONT)))


def kill_the_coordinator(world, rng):
    if not world.coordinator.lives():
        return False
    world.coordinator.end(signal.SIGKILL)
    world.resting = True
    seconds = rng.uniform(0, 3)
    world.tell(f"the coordinator is killed, and started again in {seconds:.1f} s")
    # While it takes up what it left behind, too.
    if rng.random() < 0.25:
        world.after(seconds + rng.uniform(0, 0.3), lambda: kill_the_coordinator(world, rng))
    world.after(seconds, lambda: (world.start_again(), world.tell("the coordinator is started again")))


def stop_the_coordinator(world, rng):
    coordinator = world.coordinator
    if not coordinator.lives() or coordinator.stopped:
        return False
    seconds = rng.choice((0.5, 1.5, 3, 5))
    coordinator.signal(signal.SIGSTOP)
    world.tell(f"the coordinator is stopped for {seconds} s")
    world.after(seconds, lambda: (world.tell("the coordinator goes on"), coordinator.signal(signal.SIGCONT)))


def kill_a_watcher(world, rng):
    waiting = [client for client in world.clients if not client.look()]
    if not waiting:
        return False
    client = rng.choice(waiting)
    client.process.end(signal.SIGKILL)
    watch = rng.random() < 0.3 and client.submitted()
    world.tell(f"who waits for {client.name} is killed, and {'watches it' if watch else 'asks for it'} again")
    client.start(watch)


def cut_the_network(world, rng):
    agents = [agent for agent in world.running() if agent.space]
    if not agents or world.cut:
        return False
    seconds, how = rng.choice((1, 2, 3, 5)), rng.choice(("both ways", "what the agent sends", "what it is sent"))
    space, ours, theirs = world.network
    inside = ["ip", "netns", "exec", space]
    cut, mend = {
        "both ways": ([*inside, "ip", "link", "set", theirs, "down"], [*inside, "ip", "link", "set", theirs, "up"]),
        "what the agent sends": ([*inside, "tc", "qdisc", "add", "dev", theirs, "root", "blackhole"],
                                 [*inside, "tc", "qdisc", "del", "dev", theirs, "root"]),
        "what it is sent": (["tc", "qdisc", "add", "dev", ours, "root", "blackhole"], ["tc", "qdisc", "del", "dev", ours, "root"]),
    }[how]
    _do(cut)
    world.cut = True
    world.tell(f"the network of {agents[0].name} is cut for {seconds} s: {how}")

    def whole():
        _do(mend)
        world.cut = False
        world.tell("the network is whole")
    world.after(seconds, whole)


def fill_the_disk(world, rng):
    ballast = world.state / "ballast"
    if not world.disk or ballast.exists():
        return False
    seconds = rng.uniform(0.5, 3)
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    world.filled = True
    world.tell(f"the disk is full for {seconds:.1f} s")
    world.broken["disk"] = None

    def roomy():
        ballast.unlink()
        world.broken["disk"] = time.monotonic()
        world.tell("the disk has room")
    world.after(seconds, roomy)


def restart_postgres(world, rng):
    if not world.server or world.server.down:
        return False
    seconds = rng.uniform(0, 3)
    world.server.crash()
    world.broken["server"] = None
    world.tell(f"PostgreSQL crashes, and is started again in {seconds:.1f} s")

    def started():
        world.server.begin()
        world.broken["server"] = time.monotonic()
        world.tell("PostgreSQL is started again")
    world.after(seconds, started)


FAULTS = (kill_an_agent, kill_an_agent, terminate_an_agent, stop_an_agent, stop_an_agent, kill_the_coordinator, kill_the_coordinator,
          stop_the_coordinator, kill_a_watcher)


def _one(world, rng):
    agents = [agent for agent in world.running() if not getattr(agent, "told", False)]
    return rng.choice(agents) if agents else None


def _another(world, rng, agent):
    """Takes the place of an agent after a while, under its name or another one."""
    world.count += 1
    name = agent.name.partition("+")[0] if rng.random() < 0.5 else f"agent{world.count}"
    name, slots, space = f"{name}+{world.count}", agent.slots, agent.space
    world.after(rng.uniform(0.2, 2), lambda: (world.start_agent(name, slots, space), world.tell(f"{name} comes")))


def _do(words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


# ------------------------------------------------------------------------------ places where something can go wrong


def with_a_network(world, number):
    """One agent of the round lives behind a network of its own. Needs the right to make one; what hinders it is returned."""
    name = f"ek{os.getpid() % 100000}x{number % 1000}"
    space, ours, theirs = name, f"{name}a", f"{name}b"
    subnet = f"10.{200 + os.getpid() % 50}.{number % 250}"
    undo = [["ip", "netns", "del", space], ["ip", "link", "del", ours]]
    world.cleanups.append(lambda: [subprocess.run(words, capture_output=True) for words in undo])
    try:
        _do(["ip", "netns", "add", space])
        _do(["ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", space])
        _do(["ip", "address", "add", f"{subnet}.1/24", "dev", ours])
        _do(["ip", "link", "set", ours, "up"])
        for words in (["address", "add", f"{subnet}.2/24", "dev", theirs], ["link", "set", theirs, "up"], ["link", "set", "lo", "up"]):
            _do(["ip", "-n", space, *words])
    except OSError as error:
        return str(error)
    world.network, world.listen, world.trust = (space, ours, theirs), f"{subnet}.1:0", ["--insecure"]
    return None


def with_a_small_disk(world):
    """The state directory is a disk of its own, of 24 MB."""
    try:
        _do(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(world.state)])
    except OSError as error:
        return str(error)
    world.cleanups.append(lambda: subprocess.run(["umount", "-l", str(world.state)], capture_output=True))
    world.disk = True
    return None


def with_postgres(world):
    world.server = postgres.Server(world.directory / "pg")
    world.cleanups.append(world.server.remove)
    world.store = world.server.url()
    return None


__all__ = ["FAULTS", "Wrong"]
