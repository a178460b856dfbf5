"""The suites that are measured: where they come from, the environment they run in, and what pytest is given.

Everything is made below a work directory and used again by the next measurement. Suites that others wrote are fetched by pip, in
the versions named here.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple, Tuple

PYTEST = ("pytest==9.2.0", "pytest-xdist==3.8.0")

TWENTY_MS = '''\
import time

import pytest


@pytest.mark.parametrize("number", range({short}))
def test_short(number):
    time.sleep(0.02)


def test_long():
    time.sleep({long})
'''


class Suite(NamedTuple):
    name: str
    what: str
    kind: str  # which targets hold for it: "long", "empty" or "last"
    directory: Path
    python: Path
    arguments: Tuple[str, ...]


def say(text):
    print(text, file=sys.stderr, flush=True)


def clean_environment(more=()):
    """The caller's environment without what would change how Python or pytest behaves, such as PYTHONDONTWRITEBYTECODE."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "EVENKEEL"))}
    ours.update(more)
    return ours


class Workshop:
    """Makes suites below a directory."""

    def __init__(self, root, python, quick):
        self.root = Path(root).resolve()
        self.base_python = python
        self.quick = quick

    def make(self, name):
        return getattr(self, "make_" + name.replace("-", "_"))()

    def make_networkx(self):
        python = self.environment("networkx", "numpy==2.4.6", "scipy==1.17.1", "networkx==3.6.1")
        parts = ["centrality"] if self.quick else ["flow", "isomorphism", "connectivity", "centrality"]
        # One test draws a graph without a seed, and for some of them runs for minutes, whoever runs it.
        arguments = ("--pyargs", *[f"networkx.algorithms.{part}" for part in parts], "-k", "not test_configuration")
        return Suite("networkx", f"networkx 3.6.1, {', '.join(parts)}", "long", self.directory("networkx"), python, arguments)

    def make_more_itertools(self):
        directory = self.sdist("more-itertools", "11.2.1")
        arguments = ("tests/test_recipes.py", "--deselect=tests/test_recipes.py::PrimeFunctionTests") if self.quick else ("tests",)
        return Suite("more-itertools", "more-itertools 11.2.1", "long", directory, self.environment("bare"), arguments)

    def make_attrs(self):
        directory = self.sdist("attrs", "26.1.0")
        python = self.environment("attrs", "attrs==26.1.0", "hypothesis==6.170.15", "cloudpickle==3.1.2")
        arguments = ("tests/test_annotations.py", "tests/test_validators.py") if self.quick else ("tests", "--ignore=tests/test_mypy.yml")
        return Suite("attrs", "attrs 26.1.0", "long", directory, python, arguments)

    def make_empty(self):
        files, tests = (20, 100) if self.quick else (200, 100)
        text = "\n\n".join(f"def test_{number:03}():\n    pass\n" for number in range(tests))
        directory = self.generated(f"empty-{files * tests}", {f"test_{file:03}.py": text for file in range(files)})
        return Suite("empty", f"{files * tests:,} empty tests in {files} files", "empty", directory, self.environment("bare"), ())

    def make_last(self):
        short, long = (99, 0.8) if self.quick else (399, 3)
        text = TWENTY_MS.format(short=short, long=long)
        directory = self.generated(f"last-{short}", {"test_last.py": text})
        return Suite("last", f"{short} tests of 20 ms, then one of {long} s, in one file", "last", directory, self.environment("bare"), ())

    def start(self, suite):
        """One empty test in the environment of another suite: what a start of pytest takes."""
        directory = self.generated("one", {"test_one.py": "def test_one():\n    pass\n"})
        return Suite("start", "one empty test", "start", directory, suite.python, ())

    # Whatever is made has its name only once it is whole.

    def environment(self, name, *packages):
        """A virtual environment's Python."""
        place = self.root / "environments" / name
        mark = place / "packages"
        wanted = "\n".join((str(self.base_python), *PYTEST, *packages))
        if not mark.exists() or mark.read_text() != wanted:
            say(f"making the environment {place}")
            subprocess.run([self.base_python, "-m", "venv", "--clear", place], check=True, env=clean_environment())
            pip = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *PYTEST, *packages], check=True, env=clean_environment())
            mark.write_text(wanted)
        return place / "bin" / "python"

    def sdist(self, name, version):
        """A source distribution, unpacked."""
        place = self.root / "suites" / f"{name}-{version}"
        if not place.exists():
            say(f"fetching {name} {version}")
            shutil.rmtree(self.root / "download", ignore_errors=True)
            download = self.root / "download" / name
            pip = [self.environment("bare"), "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            pip += ["--no-deps", "--no-binary", name, "--dest", download, f"{name}=={version}"]
            subprocess.run(pip, check=True, env=clean_environment())
            (archive,) = download.glob("*.tar.gz")
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            with tarfile.open(archive) as tar:
                tar.extractall(download / "unpacked", **safe)
            (top,) = (download / "unpacked").iterdir()
            place.parent.mkdir(parents=True, exist_ok=True)
            top.rename(place)
            shutil.rmtree(self.root / "download")
        return place

    def generated(self, name, files):
        """A directory of its own with these files; pytest takes it for the root."""
        directory = self.directory(name)
        for file, text in {**files, "pytest.ini": "[pytest]\n"}.items():
            path = directory / file
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
        return directory

    def directory(self, name):
        directory = self.root / "suites" / name
        directory.mkdir(parents=True, exist_ok=True)
        return directory


NAMES = ("networkx", "more-itertools", "attrs", "empty", "last")
