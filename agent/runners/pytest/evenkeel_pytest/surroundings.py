"""What a test module finds when it is imported: the directory, the environment, the search path, the module called conftest.

pytest imports all of them before the first test. A slot does it between tests, when session fixtures are set up, tests have left
their traces, and the conftest.py files of other directories are loaded already; so it puts back what would be there. Owns these
four. What else a test changes in its process, an import sees, as other tests do. PYTEST_DONT_REWRITE
"""

import contextlib
import os
import sys

getcwd, chdir = os.getcwd, os.chdir


def where():
    """The working directory; None if it has been removed."""
    try:
        return getcwd()
    except OSError:
        return None


def put(environment):
    """Makes the process's environment this one."""
    environ = os.environ
    for name in [name for name in environ if name not in environment]:
        del environ[name]
    for name, value in environment.items():
        if environ.get(name) != value:
            environ[name] = value


class Surroundings:
    def __init__(self):
        self.directory = None
        self.environment = {}
        self.known = set()  # entries of the search path
        self.added = []  # to it by conftest.py files, in the order in which the walk came to them

    def take(self):
        """This is how the collection has it."""
        self.directory = where()
        self.environment = dict(os.environ)

    @contextlib.contextmanager
    def collecting(self):
        """Inside, the directory and the environment are as the collection would have them, and changes are its own as well as
        those of the tests that follow."""
        directory, environment, before = where(), dict(os.environ), self.environment
        moved, changed = directory != self.directory, environment != before
        if moved and self.directory is not None:
            with contextlib.suppress(OSError):
                chdir(self.directory)
        if changed:
            put(before)
        try:
            yield
        finally:
            after = self.environment = dict(os.environ)
            self.directory = where()
            if changed:
                kept = {name: value for name, value in environment.items() if name in after or name not in before}
                kept.update((name, value) for name, value in after.items() if before.get(name) != value)
                put(kept)
            if moved and directory is not None:
                with contextlib.suppress(OSError):
                    chdir(directory)

    @contextlib.contextmanager
    def walking(self):
        """As above; what is put into the search path meanwhile is the walk's."""
        self.known = set(sys.path)
        with self.collecting():
            try:
                yield
            finally:
                self.look()

    def look(self):
        for entry in reversed(sys.path):  # each was put in front
            if entry not in self.known:
                self.known.add(entry)
                self.added.append(entry)

    def here(self):
        """The place that the walk has come to."""
        self.look()
        return len(self.added), sys.modules.get("conftest")

    @contextlib.contextmanager
    def importing(self, place):
        """As `collecting`, for a module that the walk met at this place: nothing that lies behind it has been loaded."""
        at, conftest = place or (len(self.added), sys.modules.get("conftest"))
        later = set(self.added[at:])
        usual, path = sys.modules.get("conftest"), sys.path[:]
        if later:
            sys.path[:] = [entry for entry in path if entry not in later]
        name_conftest(conftest)
        try:
            with self.collecting():
                yield
        finally:
            name_conftest(usual)
            if later:
                known = set(path)
                fresh = [entry for entry in sys.path if entry not in known]
                ahead = next((at for at, entry in enumerate(sys.path) if entry in known), len(sys.path))
                sys.path[:] = sys.path[:ahead] + path + fresh[ahead:]


def name_conftest(module):
    if module is None:
        sys.modules.pop("conftest", None)
    elif sys.modules.get("conftest") is not module:
        sys.modules["conftest"] = module
