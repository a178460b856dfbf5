"""Reads the cases of tests/parity/catalogue/*.cases.

A file holds the cases of one area. A case begins with `=== NAME`, then come settings, comments (`#`) and the suite's files, each behind
a line `-- PATH --` (`-- PATH -> TARGET --` is a symbolic link). Settings:

    pytest: ARGUMENTS        what is behind the word pytest
    env: NAME=VALUE          set for this case; may stand more than once
    cwd: DIRECTORY           where the command runs, below the suite
    plugin: MODULE           the case needs this one, and is left out where it is not installed
    versions: 8 9            the major versions of pytest that it is for
    slots: 1                 the only number of slots that it is for
    options: --collect whole   of Evenkeel
    once: TEXT               stands in what Evenkeel prints, and only once; may stand more than once
    differs: SENTENCE        Evenkeel documents another behaviour than plain pytest's. Then these say what must hold instead:
    exit: STATUS             Evenkeel's exit status
    says: TEXT               stands in what Evenkeel prints; may stand more than once
    test: NODEID OUTCOME TEXT   this test's verdict and a part of its message; its reports are not compared
    apart: CHECK …           checks that do not apply

A case without settings and without a configuration file shares one run with its like: its files are put into a directory of
its own.
"""

import os
import re
import shlex

AREAS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "catalogue")
SETTING = re.compile(r"(pytest|env|cwd|plugin|versions|slots|options|once|differs|exit|says|test|apart):(?: (.*))?$")
FILE = re.compile(r"-- (\S+)(?: -> (\S+))? --$")
CONFIGURATION = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "pytest.toml")


class Case:
    def __init__(self, area, name):
        self.area = area
        self.name = name
        self.arguments = []
        self.environment = {}
        self.cwd = "."
        self.plugins = []
        self.versions = None
        self.slots = None
        self.options = []
        self.differs = None
        self.exit = None
        self.says = []
        self.once = []
        self.tests = {}  # node id -> (outcome, part of the message)
        self.apart = set()
        self.files = {}  # path -> text
        self.links = {}  # path -> target
        self.alone = False

    def __str__(self):
        return f"{self.area}: {self.name}"

    @property
    def directory(self):
        return re.sub(r"\W+", "_", f"{self.area} {self.name}")

    def set(self, setting, value):
        self.alone = True
        if setting == "pytest":
            self.arguments = shlex.split(value)
        elif setting == "env":
            name, _, text = value.partition("=")
            self.environment[name] = text
        elif setting == "plugin":
            self.plugins.append(value)
        elif setting == "versions":
            self.versions = [int(word) for word in value.split()]
        elif setting in ("exit", "slots"):
            setattr(self, setting, int(value))
        elif setting == "options":
            self.options = value.split()
        elif setting in ("says", "once"):
            getattr(self, setting).append(value)
        elif setting == "test":
            nodeid, outcome, *part = value.split(" ", 2)
            self.tests[nodeid] = (outcome, part[0] if part else "")
        elif setting == "apart":
            self.apart.update(value.split())
        else:
            setattr(self, setting, value)

    def write(self, root):
        for path, text in self.files.items():
            path = os.path.join(root, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        for path, target in self.links.items():
            path = os.path.join(root, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(target, path)


def read(path):
    area = os.path.basename(path)[: -len(".cases")]
    cases, case, lines = [], None, None
    with open(path, encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            bare = line.rstrip("\n")
            file = FILE.match(bare)
            if bare.startswith("=== "):
                case, lines = Case(area, bare[4:].strip()), None
                cases.append(case)
            elif file and case:
                if file[2]:
                    case.links[file[1]] = file[2]
                else:
                    lines = case.files.setdefault(file[1], [])
            elif lines is not None:
                lines.append(line)
            elif bare and not bare.startswith("#"):
                setting = SETTING.match(bare)
                if not setting or not case:
                    raise SystemExit(f"{path}:{number}: neither a setting nor a comment: {bare}")
                case.set(setting[1], setting[2] or "")
    for case in cases:
        case.alone = case.alone or any(name in case.files for name in CONFIGURATION)
        case.files = {path: "".join(lines).strip("\n") + "\n" for path, lines in case.files.items()}
        if (case.exit is not None or case.tests or case.apart) and not case.differs:
            raise SystemExit(f"{case} says that something differs, but not what")
    return cases


def read_all():
    cases = []
    for name in sorted(os.listdir(AREAS)):
        if name.endswith(".cases"):
            cases += read(os.path.join(AREAS, name))
    directories = [case.directory for case in cases]
    for case in cases:
        if directories.count(case.directory) > 1:
            raise SystemExit(f"there are two cases named {case}")
    seen = {}
    for case in (case for case in cases if not case.alone):
        for path in case.files:
            name = os.path.basename(path)
            if name not in ("conftest.py", "__init__.py") and seen.setdefault(name, case) is not case:
                raise SystemExit(f"{case} and {seen[name]} share a run, and both have a {name}")
    return cases
