"""A PostgreSQL server of the round's own, reached through a socket in its directory."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path


def programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    where = found[-1] if found else shutil.which("initdb")
    if not where:
        raise OSError("PostgreSQL is missing; on Debian: apt-get install postgresql")
    return Path(where).parent


class Server:
    def __init__(self, directory):
        self.directory, self.programs, self.down = Path(directory), programs(), True
        self.directory.mkdir()
        # It refuses to run as root.
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self.user:
            os.chown(self.directory, self.user.pw_uid, self.user.pw_gid)
            for above in self.directory.parents:
                if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
                    above.chmod(above.stat().st_mode | 0o011)
        self._run("initdb", "-D", "data", "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        self.begin()

    def begin(self):
        options = f"-k {self.directory} -c listen_addresses= -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")
        self.down = False

    def crash(self):
        self.down = True
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def remove(self):
        if not self.down:
            self.crash()

    def url(self):
        return f"postgres://postgres@localhost/postgres?host={self.directory}"

    def _run(self, program, *words):
        as_user = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        done = subprocess.run([self.programs / program, *words], cwd=self.directory, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user)
        if done.returncode:
            log = self.directory / "log"
            raise OSError(f"{program}: {log.read_text() if log.exists() else done.returncode}")
