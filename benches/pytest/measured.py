"""Runs a command and adds a line of JSON to a file that says what it took: python -I -S measured.py FILE COMMAND…

`wall`: seconds from start to end. `cpu`: user and system seconds of the command's process and of all below it that were waited
for. `rss_kb`: the largest peak of resident memory of any one of these processes. `exit`: the command's status.

The figures are the kernel's, by wait4 on the command. This process is kept small, since a child's peak begins with that of
the process it was forked from.
"""

import os
import sys
import time

if __name__ == "__main__":
    file, *command = sys.argv[1:]
    started = time.monotonic()
    try:
        pid = os.posix_spawnp(command[0], command, os.environ)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - started
    code = os.waitstatus_to_exitcode(status)
    line = f'{{"wall":{wall:.6f},"cpu":{used.ru_utime + used.ru_stime:.6f},"rss_kb":{used.ru_maxrss},"exit":{code}}}\n'
    # In one write, since the processes of several slots may end at a time.
    out = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(out, line.encode())
    sys.exit(code if code >= 0 else 128 - code)
