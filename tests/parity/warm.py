"""An interpreter that has pytest imported already and forks for each command, since hundreds of short runs pay for little else.

    python warm.py DIRECTORY

makes DIRECTORY/python, which takes the place of the interpreter in `python -m pytest ARGUMENTS`: environment, working directory,
arguments and streams are those of its caller. Variables that Python reads as it starts are those of this process, except PYTHONPATH.
Ends when its standard input does.
"""

import contextlib
import gc
import os
import runpy
import select
import signal
import sys

import pytest  # noqa: F401

# The subshell, since a redirection would for a moment be the shell's own standard output.
SHIM = """#!/bin/sh
mkfifo {0}/$$ && exec 3<>{0}/$$ && (echo $$ > {0}/requests) && read status <&3
rm -f {0}/$$
exit $status
"""


def become(pid):
    """Makes this process what the caller started."""
    os.chdir(f"/proc/{pid}/cwd")
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        file = os.open(f"/proc/{pid}/fd/{number}", flags)
        os.dup2(file, number)
        os.close(file)
    with open(f"/proc/{pid}/environ", "rb") as file:
        entries = [entry.partition(b"=") for entry in file.read().split(b"\0") if entry]
    os.environ.clear()
    os.environb.update((name, value) for name, _, value in entries)
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = [os.fsdecode(word) for word in file.read().split(b"\0")[2:-1]]
    if words[:2] != ["-m", "pytest"]:
        raise SystemExit(f"not for {words}")
    sys.argv[:] = ["-m", *words[2:]]
    search = os.environ.get("PYTHONPATH")
    sys.path[:0] = [os.getcwd(), *(os.path.abspath(entry) for entry in (search.split(os.pathsep) if search else ()))]


def serve(directory, pid):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        become(pid)
        runpy.run_module("pytest", run_name="__main__", alter_sys=True)  # ends with SystemExit, as in an interpreter of its own
        sys.exit(0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, status = os.waitpid(child, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    with contextlib.suppress(OSError):  # its caller was ended
        os.write(os.open(os.path.join(directory, str(pid)), os.O_WRONLY | os.O_NONBLOCK), b"%d\n" % code)
    os._exit(0)


def main(directory):
    requests = os.path.join(directory, "requests")
    os.mkfifo(requests)
    queue = os.open(requests, os.O_RDWR)
    shim = os.path.join(directory, "python")
    with open(shim, "w") as file:
        file.write(SHIM.format(directory))
    os.chmod(shim, 0o755)
    print("ready", flush=True)
    sys.path.pop(0)  # this file's directory, where an interpreter has its working directory
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that serve
    gc.freeze()
    rest = b""
    while True:
        ready, _, _ = select.select([0, queue], [], [])
        if 0 in ready:
            return
        *pids, rest = (rest + os.read(queue, 4096)).split(b"\n")
        for pid in pids:
            if os.fork() == 0:
                os.close(queue)
                serve(directory, int(pid))


if __name__ == "__main__":
    main(sys.argv[1])
