"""The half of an Evenkeel slot that lives inside pytest.

The agent starts the user's own command with `-p evenkeel_pytest` behind the word pytest. This plugin then lets pytest set
itself up as ever, finds the test files without importing them, and runs file by file what the agent leases to it over a socket
of its own. The conversation is described in docs/runner-protocol.md, which is the authority; words in here (unit, case, lease)
are meant as there.

It owns the walk, the loop over leases and the way results take. It deliberately leaves alone how a test is collected, set up,
run and reported: those are pytest's own hooks, called as pytest calls them, so that an outcome is what pytest alone would have
said. Nothing is written to the checkout, nothing is installed, nothing but pytest and the standard library is needed.

Runs on pytest 7 and later, Python 3.8 and later. PYTEST_DONT_REWRITE: there are no asserts in here to explain.
"""

import atexit
import collections
import contextlib
import inspect
import io
import json
import os
import re
import signal
import socket
import sys
import time
import traceback

import pytest
from _pytest import main as pytest_main
from _pytest import runner as pytest_runner
from _pytest.config import ConftestImportFailure, filter_traceback

PROTOCOL = 1
LINE_LIMIT = 15 << 20  # bytes; the protocol allows 16 MiB, the rest is for what stands around the texts
TEXT_LIMIT = 1 << 20  # bytes of one text of a case: an output, a detail
CHUNK = 1 << 18  # characters of one `listed` or `declare`, roughly
MESSAGE_LIMIT = 1000  # characters of the one line that says what went wrong
WORTH_TELLING = 1000  # microseconds of set-up or tear-down from which the phases are worth their bytes
FAREWELL_SECONDS = 10  # what the tear-down may take after the agent has gone
BROKEN = 3  # exit status where the slot cannot go on; pytest's own "internal error"

# Options that do something else than run tests, or that need to see all tests of a run: (dest, as typed, what to do instead).
NOT_HERE = (
    ("version", "--version", "ask pytest itself"),
    ("help", "--help", "ask pytest itself"),
    ("collectonly", "--collect-only", "ask pytest itself, or list with Evenkeel"),
    ("showfixtures", "--fixtures", "ask pytest itself"),
    ("show_fixtures_per_test", "--fixtures-per-test", "ask pytest itself"),
    ("markers", "--markers", "ask pytest itself"),
    ("setuponly", "--setup-only", "ask pytest itself"),
    ("setupplan", "--setup-plan", "ask pytest itself"),
    ("cacheshow", "--cache-show", "ask pytest itself"),
    ("cacheclear", "--cache-clear", "run `pytest --cache-clear --collect-only` before, or remove .pytest_cache"),
    ("lf", "--lf", "leave it out, and name the tests to run"),
    ("failedfirst", "--ff", "leave it out: Evenkeel orders the tests by what it knows of them"),
    ("newfirst", "--nf", "leave it out: Evenkeel orders the tests by what it knows of them"),
    ("stepwise", "--sw", "leave it out, or use -x"),
    ("stepwise_skip", "--sw-skip", "leave it out, or use -x"),
    ("stepwise_reset", "--sw-reset", "leave it out, or use -x"),
    ("usepdb", "--pdb", "run that one test with pytest itself"),
    ("trace", "--trace", "run that one test with pytest itself"),
    ("looponfail", "-f", "run pytest itself in a loop"),
    ("pastebin", "--pastebin", "leave it out"),
)


def _clean_environment():
    """Undoes what the agent had to do to get this file loaded, so that tests and the processes that they start see what plain
    pytest would show them. Returns the path of the agent's socket, None if there is no agent."""
    environ = os.environ
    address = environ.pop("EVENKEEL_SOCKET", None)
    was = environ.pop("EVENKEEL_PYTHONPATH_WAS", None)
    if address is None:
        return None
    here = os.path.dirname(os.path.realpath(__file__))
    # Only the first entry is the agent's; somebody may have put the same directory there on purpose.
    for at, entry in enumerate(sys.path):
        if entry and os.path.realpath(entry) == here:
            del sys.path[at]
            break
    entries = environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [entry for entry in entries if os.path.realpath(entry or os.curdir) != here]
    if was is not None:
        environ["PYTHONPATH"] = was
    elif any(entries):  # a wrapper between the agent and pytest has added some
        environ["PYTHONPATH"] = os.pathsep.join(entries)
    else:
        environ.pop("PYTHONPATH", None)
    for at in range(len(sys.argv) - 1):
        if sys.argv[at : at + 2] == ["-p", "evenkeel_pytest"]:
            del sys.argv[at : at + 2]  # pytest has taken its copy; a test that starts sys.argv again must not need us
            break
    return address


def now(clock=time.monotonic_ns):
    """Microseconds. The clock is bound early: freezegun and its kin replace what they find in a module's globals."""
    return clock() // 1000


class Wire:
    """The socket. Only the process that opened it may use it: a child that a test forks has the descriptor too, and whatever
    it sends would be taken for ours."""

    def __init__(self, address):
        self.pid = os.getpid()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(address)
        self.out = []
        self.rest = b""

    def ours(self, getpid=os.getpid):
        return getpid() == self.pid

    def push(self, line):
        """Takes a line to send later: an `end` and the `start` behind it share a system call."""
        self.out.append(line)

    def flush(self):
        """Sends what was pushed. An OSError means that the agent has gone."""
        if self.out and self.ours():
            data = "".join(self.out).encode("utf-8", "replace")
            self.out.clear()
            self.socket.sendall(data)

    def receive(self, wait):
        """The complete lines that have come, as bytes; none if there are none and it may not wait. EOFError: the agent has gone."""
        try:
            data = self.socket.recv(1 << 16, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return ()
        except OSError:
            data = b""
        if not data:
            raise EOFError
        *lines, self.rest = (self.rest + data).split(b"\n")
        return lines


def typed(value, kind):
    if type(value) is not kind:
        raise TypeError(f"{value!r} should be of type {kind.__name__}")
    return value


# Text on its way out.

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_surrogates = re.compile("[\ud800-\udfff]")


def clean(text):
    """The text without what UTF-8 cannot carry."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return _surrogates.sub("\ufffd", text)


def cut(text, limit=TEXT_LIMIT):
    """The text, clean; its middle left out if it is longer than `limit` bytes, since what matters is at either end."""
    text = clean(text)
    if len(text) * 4 <= limit:
        return text
    data = text.encode("utf-8")
    if len(data) <= limit:
        return text
    half = limit // 2
    head, tail = data[:half].decode("utf-8", "ignore"), data[-half:].decode("utf-8", "ignore")
    return f"{head}\n[... {len(data) - 2 * half} bytes left out by Evenkeel ...]\n{tail}"


def one_line(text):
    """The first line with something on it."""
    text = text.strip()
    return clean(text.split("\n", 1)[0].rstrip()[:MESSAGE_LIMIT])


def headline(report):
    """What a failed report says, in one line: the exception's, where pytest knows it, else the likeliest line of its text."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return one_line(str(crash.message))
    text = report.longreprtext.strip()
    if isinstance(report.longrepr, str):
        return one_line(text)
    lines = text.split("\n")
    raised = [line[1:] for line in lines if line.startswith("E ")]
    return one_line(raised[0] if raised else lines[-1])


def is_subtest(report):
    kind = type(report)
    return kind is not pytest.TestReport and "subtest" in kind.__name__.lower()  # one of pytest 9, or of pytest-subtests


def skip_reason(report):
    """Why a report is skipped, in one line."""
    reason = getattr(report, "wasxfail", None)
    if reason is not None:
        reason = reason[len("reason: ") :] if reason.startswith("reason: ") else reason
        return one_line(f"xfail: {reason}" if reason else "xfail")
    longrepr = report.longrepr
    reason = longrepr[2] if isinstance(longrepr, tuple) and len(longrepr) == 3 else report.longreprtext
    return one_line(reason[len("Skipped: ") :] if reason.startswith("Skipped: ") else reason)


def outputs(sections):
    """pytest's "Captured stdout setup" as the protocol's outputs; other plugins' sections keep their names."""
    result = []
    for title, text in sections:
        if not text:
            continue
        words = title.split()
        if len(words) == 3 and words[0] == "Captured":
            output = {"name": words[1], "text": text}
            if words[2] != "call":
                output["phase"] = words[2]
        else:
            output = {"name": clean(title), "text": text}
        result.append(output)
    return result


def trace(error):
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def conftest_error(error):
    """What pytest prints when a conftest.py cannot be loaded: without the frames of the import machinery."""
    cause = getattr(error, "cause", None) or error.excinfo[1]  # pytest 8, pytest 7
    info = pytest.ExceptionInfo.from_exc_info((type(cause), cause, cause.__traceback__))
    info.traceback = info.traceback.filter(lambda entry: filter_traceback(entry) and "importlib" not in str(entry.path))
    text = info.getrepr(style="short", chain=False) if info.traceback else info.exconly()
    return f"ImportError while loading conftest '{error.path}'.\n{text}"


# What the agent and the slot talk about.


class Unit:
    """A test file, or whatever else pytest found that is not a directory."""

    def __init__(self, name, path):
        self.name = name
        self.path = path
        self.nodes = []  # as pytest would expand them; one twice where the command names it twice
        self.names = []  # what the command picks from the file behind `::`; empty: everything
        self.reports = []  # what went wrong on the walk already, for a directory
        self.cases = None  # what it holds, kept while more leases on it are to be expected
        self.load_us = 0


class Case:
    """A test, or, without an item, the word on a unit or a part of one that could not be loaded."""

    __slots__ = ("id", "n", "item", "verdict")

    def __init__(self, id, n, item, verdict=None):
        self.id = id
        self.n = n
        self.item = item
        self.verdict = verdict


class Verdict:
    """What is told of a case at its end."""

    __slots__ = ("outcome", "message", "details", "outputs", "duration", "phases")

    def __init__(self, outcome, message="", details=(), outputs=(), duration=0, phases=None):
        self.outcome = outcome
        self.message = message
        self.details = details  # (heading, text)
        self.outputs = outputs
        self.duration = duration  # microseconds, as are the phases
        self.phases = phases

    def charge(self, heading, message, text):
        """Adds an error that came from around the test."""
        if self.outcome != "failed":
            self.outcome = "error"
        self.message = self.message or message
        self.details = [*self.details, (heading, text)]

    def fields(self, limit=TEXT_LIMIT):
        """The optional fields of an `end`, with a comma in front of each."""
        parts = []
        if self.message:
            parts.append(f',"message":{_dumps(self.message)}')
        details = [(heading, text) for heading, text in self.details if text]
        if details:
            text = details[0][1]
            if len(details) > 1:
                text = "\n\n".join(f"---- {heading} ----\n{text}" for heading, text in details)
            parts.append(f',"detail":{_dumps(cut(text, limit))}')
        if self.outputs:
            told = [dict(output, text=cut(output["text"], limit)) for output in self.outputs]
            parts.append(f',"output":{_dumps(told)}')
        if self.phases:
            parts.append(f',"phases_us":{_dumps(self.phases)}')
        return "".join(parts)


class Lease:
    """The right to run cases [next, limit) of a unit."""

    def __init__(self, number, unit, only, skip):
        self.number = number
        self.unit = unit
        self.only = only
        self.skip = skip
        self.cases = None
        self.next = 0
        self.limit = 0
        self.revokes = []  # what came while the cases were not known yet

    def admits(self, case):
        key = (case.id, case.n)
        return (self.only is None or key in self.only) and (self.skip is None or key not in self.skip)


class Ahead(pytest.Item):
    """Stands in for the item behind the last of a unit, which nobody knows yet.

    pytest asks the next item for its chain of parents at the moment of tear-down, to keep what both share. By then the agent
    has mostly told what comes next; if not, this is where the slot waits for it. So fixtures of a package or the session live
    across units, and those that must go do so as part of the test that used them last, as in plain pytest. To plugins that
    look at the next item otherwise, this one belongs to the session and to nothing below it.
    """

    cls = module = function = instance = obj = None
    fixturenames = ()

    def listchain(self):
        return self.slot.chain_ahead()

    def iter_markers_with_node(self, name=None):  # pytest 7 goes by the chain
        return iter(())

    def reportinfo(self):
        return self.path, None, self.name

    def runtest(self):
        raise NotImplementedError("a stand-in for a test is never run")


class Muted:
    """A hook that is called but not heard; whoever registers with it meanwhile is kept."""

    def __init__(self, hook):
        self.hook = hook

    def __call__(self, **arguments):
        return []

    def __getattr__(self, name):
        return getattr(self.hook, name)


class Void(io.TextIOBase):
    """Where pytest's own talk goes: the slot's output belongs to the tests."""

    encoding = "utf-8"

    def write(self, text):
        return len(text)


class Slot:
    """The plugin. Its life: set-up and walk (`pytest_cmdline_main` to `pytest_collection`), the loop over leases
    (`pytest_runtestloop`), the end (`pytest_sessionfinish`, `farewell`)."""

    def __init__(self, wire, config):
        self.wire = wire
        self.config = config
        self.session = None
        self.number = int(os.environ.get("EVENKEEL_SLOT", "0"))
        self.slots = int(os.environ.get("EVENKEEL_SLOTS", "1"))
        self.notes = []
        self.run_wide = {}
        self.units = {}  # by name, in pytest's order
        self.units_by_path = {}
        self.picked = {}  # path -> what the command picks from it
        self.restore = []
        self.queue = collections.deque()
        self.lease = None  # the one at work
        self.idle = False
        self.stopping = False
        self.reports = []  # of the item that runs
        self.subtests = False  # whether it had any
        self.waited = 0  # microseconds of its tear-down that were the agent's
        self.trouble_collecting = []  # reports of collectors that failed or were skipped
        self.orphans = []  # tear-down errors behind the end of the test that they belong to: (message, text)
        self.looping = False
        self.done = False
        self.broken = None  # why this process must not end well
        self.refused = False
        self.gone = False

    # Set-up.

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config):
        """As early as all options are known, and before any other plugin acts on them."""
        self.config = config
        self.refuse_options(config)
        self.take_over_options(config)
        if self.slots > 1:
            self.become_worker(config)
        yield

    def refuse_options(self, config):
        option = config.option
        wrong = [(spelled, hint) for dest, spelled, hint in NOT_HERE if getattr(option, dest, None)]
        if getattr(option, "cov_source", None) and not getattr(option, "no_cov", False):
            wrong.append(("--cov", "add --no-cov; several processes would write one data file"))
        if self.most_warnings(config) is not None:
            wrong.append(("--max-warnings", "leave it out, also in the configuration file; the run's warnings are not counted"))
        if wrong:
            spelled, hint = wrong[0]
            message = f"{spelled} does not work under Evenkeel"
            self.refuse("unsupported", message, hint)
            raise pytest.UsageError(f"{message}; {hint}")

    @staticmethod
    def most_warnings(config):
        if getattr(config.option, "max_warnings", None) is not None:
            return config.option.max_warnings
        try:
            return config.getini("max_warnings")
        except (KeyError, ValueError):  # pytest before 9.1 has no such setting
            return None

    def take_over_options(self, config):
        """Switches off what belongs to the whole run, and remembers it for `hello`."""
        option = config.option
        if getattr(option, "maxfail", 0):
            self.run_wide["max_fail"] = option.maxfail
            option.maxfail = 0
        if getattr(option, "xmlpath", None):
            self.run_wide["junit"] = clean(os.path.expanduser(os.path.expandvars(option.xmlpath)))
            option.xmlpath = None
        if getattr(option, "numprocesses", None) or getattr(option, "tx", None) or getattr(option, "dist", "no") != "no":
            self.notes.append("-n: Evenkeel's own slots take its place; set them with --slots")
        for dest, off in (("numprocesses", None), ("tx", []), ("dist", "no"), ("distload", False)):
            if hasattr(option, dest):
                setattr(option, dest, off)

    def become_worker(self, config):
        """Says what xdist says in its workers, the way plugins know that other processes run the same suite beside this one,
        so that they leave shared files alone."""
        name = f"gw{self.number}"
        seed = int(os.environ.get("EVENKEEL_SEED", "0"))
        config.workerinput = {
            "workerid": name,
            "workercount": self.slots,
            "testrunuid": os.environ.get("EVENKEEL_RUN_ID", ""),
            "mainargv": list(sys.argv),
            "randomly_seed": seed & 0xFFFFFFFF,  # pytest-randomly expects its controller's
        }
        config.workeroutput = {}
        rerunfailures = config.pluginmanager.get_plugin("rerunfailures")
        if hasattr(rerunfailures, "HAS_PYTEST_HANDLECRASHITEM"):
            rerunfailures.HAS_PYTEST_HANDLECRASHITEM = False  # else it looks for a server that its controller would run
        if getattr(config.option, "basetemp", None):
            os.makedirs(config.option.basetemp, exist_ok=True)
            config.option.basetemp = os.path.join(config.option.basetemp, name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session):
        self.session = session
        self.silence_terminal(session.config)

    @staticmethod
    def silence_terminal(config):
        """Keeps the terminal reporter for those who ask for it, but neither hears it nor pays for it."""
        pluginmanager = config.pluginmanager
        for name in ("terminalreporter", "terminalprogress"):
            reporter = pluginmanager.get_plugin(name)
            writer = getattr(reporter, "_tw", None)
            if writer is not None:
                writer._file = Void()
                writer.hasmarkup = False
            if reporter is None:
                continue
            for hook in pluginmanager.get_hookcallers(reporter) or ():
                if hook.name not in ("pytest_report_teststatus", "pytest_sessionstart", "pytest_report_header"):
                    with contextlib.suppress(AttributeError, ValueError):
                        hook._remove_plugin(reporter)

    # The walk: everything that pytest does to find tests, up to the point where it would import the first module.

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session):
        if self.lease is not None:
            self.collect(session, self.lease.unit)
            return True
        args = session.config.args
        self.restore.append(lambda: setattr(session.config, "args", args))
        session.config.args = self.without_names(session.config, args)
        expand = session.genitems

        def genitems(node):
            leaf = isinstance(node, pytest.Item) or isinstance(node, pytest.File) and not isinstance(node, pytest.Package)
            if not leaf:
                return expand(node)
            self.note(node)
            return iter(())

        session.genitems = genitems  # an attribute of the instance; the method comes back when it is deleted
        self.restore.append(lambda: delattr(session, "genitems"))
        # perform_collect ends with these, which are meant for a list of items; there is none before a unit is loaded.
        hooks = session.config.hook
        for name in ("pytest_collection_modifyitems", "pytest_collection_finish"):
            real = getattr(hooks, name)
            setattr(hooks, name, Muted(real))
            self.restore.append(lambda name=name, real=real: setattr(hooks, name, real))
        return None

    def without_names(self, config, args):
        """The arguments without `::` and what follows, which would make pytest import the modules; that is kept for the lease."""
        if not any("::" in arg for arg in args):
            return args
        accepted = inspect.signature(pytest_main.resolve_collection_argument).parameters
        resolved = []
        for index, arg in enumerate(args):
            more = {"arg_index": index, "as_pypath": config.option.pyargs}
            if "consider_namespace_packages" in accepted:
                more["consider_namespace_packages"] = config.getini("consider_namespace_packages")
            more = {name: value for name, value in more.items() if name in accepted}
            resolved.append(pytest_main.resolve_collection_argument(config.invocation_params.dir, arg, **more))
        kept = range(len(args))
        normalize = getattr(pytest_main, "normalize_collection_arguments", None)  # pytest 9
        if normalize is not None and not config.getoption("keepduplicates"):
            kept = [argument.original_index for argument in normalize(resolved)]
        result = []
        for index in kept:
            base, bracket, rest = args[index].partition("[")
            place, *names = base.split("::")
            if not names:
                result.append(args[index])
                continue
            names[-1] += bracket + rest
            path = str(resolved[index][0] if isinstance(resolved[index], tuple) else resolved[index].path)
            if path not in self.picked:
                self.picked[path] = []
                result.append(place)
            self.picked[path].append(names)
        return result

    def note(self, node):
        path = str(node.path)
        unit = self.units_by_path.get(path)
        if unit is None:
            unit = self.units_by_path[path] = self.new_unit(node.nodeid, path)
            unit.names = self.picked.get(path, [])
        unit.nodes.append(node)

    def new_unit(self, nodeid, path):
        name = clean(nodeid) or "."
        if name in self.units:  # seen outside the root directory, where pytest names a file by its path in its argument
            name = clean(path)
        unit = self.units[name] = Unit(name, path)
        return unit

    def pytest_collectreport(self, report):
        if not report.passed:
            self.trouble_collecting.append(report)

    def end_walk(self):
        while self.restore:
            self.restore.pop()()
        # What could not be walked is in no unit; it becomes one, so that it is not lost.
        for report in self.trouble_collecting:
            name = clean(report.nodeid) or "."
            unit = self.units.get(name) or self.new_unit(name, name)
            unit.reports.append(report)
        self.trouble_collecting = []
        # A wrong -k or -m is the user's mistake, and not one of the first unit.
        mark = self.config.pluginmanager.get_plugin("mark")
        if mark is not None:
            mark.pytest_collection_modifyitems(items=[], config=self.config)

    # The loop.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        self.end_walk()
        self.ahead = Ahead.from_parent(session, name="[the next unit's first test]")
        self.ahead.slot = self
        self.say_hello()
        self.looping = True
        while True:
            if self.queue:
                self.work(self.queue.popleft())
            elif self.idle or self.stopping:
                self.let_go()
                if self.stopping:
                    break
                self.receive(wait=True)
            else:
                self.receive(wait=True)
        for message, text in self.orphans:
            self.give_up(f"an error at the end, after the last test had ended: {message}\n{text}")
        self.done = True
        return True

    def say_hello(self):
        """Only now: a path that does not exist or a filter that cannot be parsed has shown by the end of the walk at the latest."""
        implementation = "Python" if sys.implementation.name == "cpython" else sys.implementation.name
        hello = {
            "event": "hello",
            "protocol": PROTOCOL,
            "runner": "pytest",
            "framework": f"pytest {pytest.__version__}",
            "language": f"{implementation} {'.'.join(map(str, sys.version_info[:3]))}",
            "pid": os.getpid(),
            "at": now(),
            "can": ["list", "revoke"],
            "notes": self.notes,
            "run_wide": self.run_wide,
        }
        self.send(_dumps(hello) + "\n")

    def receive(self, wait):
        """Takes what the agent has sent. Everything that waits to be sent goes out before the slot itself waits."""
        try:
            if wait:
                self.wire.flush()
            for line in self.wire.receive(wait):
                self.obey(line)
        except (EOFError, OSError):
            self.leave()

    def send(self, line=""):
        try:
            self.wire.push(line)
            self.wire.flush()
        except OSError:
            self.leave()

    def obey(self, line):
        try:
            operation = json.loads(line)
            name = operation["op"]
            if name == "run":
                wanted = typed(operation["unit"], str)
                only, skip = (self.keys(operation.get(field)) for field in ("only", "skip"))
                unit = self.units.get(wanted) or Unit(wanted, wanted)
                self.queue.append(Lease(typed(operation["lease"], int), unit, only, skip))
                self.idle = False
            elif name == "revoke":
                self.revoke(typed(operation["lease"], int), typed(operation["from"], int))
            elif name == "list":
                self.list_units()
            elif name == "idle":
                self.idle = True
            elif name == "stop":
                self.stopping = True
            else:
                raise ValueError(f"no such operation: {name}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.say("error", f"protocol error: {type(error).__name__}: {error} in {line[:200]!r}")
            self.leave()

    @staticmethod
    def keys(cases):
        if cases is None:
            return None
        return {(typed(case["id"], str), typed(case.get("n", 0), int)) for case in typed(cases, list)}

    def list_units(self):
        entries, size = [], 0
        for unit in self.units.values():
            entry = {"unit": unit.name, "path": clean(unit.path)}
            with contextlib.suppress(OSError):
                entry["size"] = os.stat(unit.path).st_size
            entry = _dumps(entry)
            if size > CHUNK:
                self.wire.push(f'{{"event":"listed","units":[{",".join(entries)}],"more":true}}\n')
                entries, size = [], 0
            entries.append(entry)
            size += len(entry)
        self.send(f'{{"event":"listed","units":[{",".join(entries)}],"more":false}}\n')

    def revoke(self, number, start):
        lease = self.lease
        if lease is not None and lease.number == number:
            if lease.cases is None:
                lease.revokes.append(start)
            else:
                self.give_back(lease, start)
            return
        for lease in self.queue:
            if lease.number == number:
                if start > 0:
                    lease.revokes.append(start)  # which cases these are shows when the unit is loaded
                else:
                    self.queue.remove(lease)
                    self.send(f'{{"event":"returned","lease":{number},"cases":[],"all":true}}\n')
                return
        self.send(f'{{"event":"returned","lease":{number},"cases":[],"all":false}}\n')

    def give_back(self, lease, start):
        start = min(max(start, lease.next), lease.limit)
        cases = ",".join(map(str, range(start, lease.limit)))
        lease.limit = start
        self.send(f'{{"event":"returned","lease":{lease.number},"cases":[{cases}],"all":false}}\n')

    def chain_ahead(self):
        """The nodes that the next item will want to find set up; waits where that depends on the agent's next word."""
        if not self.wire.ours():
            return list(self.session._setupstate.stack)[:-1]  # a forked child ends with its test; what it shares is not its own
        self.receive(wait=False)
        told = False
        while not self.queue:
            if self.idle or self.stopping:
                return []
            asked = now()
            if not told:
                told = True
                self.wire.push(f'{{"event":"waiting","lease":{self.lease.number},"case":{self.lease.next - 1},"at":{asked}}}\n')
            self.receive(wait=True)
            self.waited += max(1, now() - asked)
        lease = self.queue[0]
        for case in lease.unit.cases or ():
            if case.item is not None and lease.admits(case):
                return case.item.listchain()
        return lease.unit.nodes[0].listchain() if lease.unit.nodes else [self.session]

    # A lease.

    def work(self, lease):
        self.lease = lease
        number = lease.number
        self.send(f'{{"event":"begin","lease":{number},"at":{now()}}}\n')  # out before the unit's own code runs
        unit = lease.unit
        if unit.cases is None:
            self.load(unit)
        lease.cases = [case for case in unit.cases if lease.admits(case)]
        if not lease.cases and lease.only and unit.cases and unit.cases[0].item is None and len(unit.cases) == 1:
            lease.cases = unit.cases  # nothing of what was asked for could be loaded; the unit's word on that is the answer
        if not lease.cases:
            lease.cases = self.last_word(unit)
        lease.limit = len(lease.cases)
        self.declare(lease)
        for start in lease.revokes:
            self.give_back(lease, start)
        self.receive(wait=False)
        while lease.next < lease.limit:
            self.run(lease)
        if lease.limit >= len(unit.cases):
            unit.cases = None  # nothing is left of it; a part of a unit is mostly followed by another
        self.wire.push(f'{{"event":"close","lease":{number},"at":{now()},"setup_us":{unit.load_us}}}\n')
        self.lease = None

    def last_word(self, unit):
        """The cases of a unit that has none. If it is the last, then what was kept for it goes now, and an error in that is
        charged to it: it happened while the unit had its turn, and no other case is left to bear it."""
        self.receive(wait=False)
        if self.queue or not (self.idle or self.stopping):
            return []
        self.let_go()
        orphans, self.orphans = self.orphans, []
        if not orphans:
            return []
        verdict = Verdict("passed")
        for message, text in orphans:
            verdict.charge("tear-down of an earlier test", message, text)
        return [Case(unit.name, 0, None, verdict)]

    def load(self, unit):
        """Collects the unit's items by way of the hook, so that whatever plugins wrap around collection (filters for warnings,
        log files) is around this too."""
        started = now()
        self.trouble_collecting = []
        cases, items, broken = [], [], None
        try:
            if unit.nodes:
                self.config.hook.pytest_collection(session=self.session)
                items = self.session.items
            elif not unit.reports:
                broken = f"there is no unit {unit.name} here"
        except pytest.exit.Exception:
            raise  # ends plain pytest too; the agent takes it for an error of this unit
        except (pytest.UsageError, self.session.Failed) as error:
            broken = "\n".join(map(str, error.args))
        except (Exception, SystemExit) as error:
            broken = trace(error)
        reports = unit.reports + self.trouble_collecting
        failed = [report for report in reports if report.failed]
        skipped = [report for report in reports if report.skipped]
        if failed or broken is not None:
            details = [(clean(report.nodeid), report.longreprtext) for report in failed]
            message = headline(failed[0]) if failed else one_line(broken.strip().split("\n")[-1])
            if broken is not None:
                details.append(("loading", broken))
            told = [output for report in failed for output in outputs(report.sections)]
            cases.append(Case(unit.name, 0, None, Verdict("error", message, details, told)))
        elif skipped:
            cases.append(Case(unit.name, 0, None, Verdict("skipped", skip_reason(skipped[0]))))
        seen = {}
        for case in cases:
            seen[case.id] = 1
        for item in items:
            id = clean(item.nodeid)
            n = seen.get(id, 0)
            seen[id] = n + 1
            cases.append(Case(id, n, item))
        self.trouble_collecting = []
        unit.cases = cases
        unit.load_us = now() - started

    def collect(self, session, unit):
        """What Session.perform_collect does with all files, for one."""
        getattr(session, "_collection_cache", {}).clear()
        items = session.items = []
        nodes, named = unit.nodes, []
        if unit.names:
            # The walk met the file once for its names, at last; before that as often as other arguments hold it.
            kinds = len({type(node) for node in nodes})
            nodes, named = nodes[:-kinds], nodes[-kinds:]
        missing = []
        for node in nodes:
            items.extend(session.genitems(node))
        seen = {}
        for names in unit.names:
            found = [match for node in named for match in self.match(node, names, seen)]
            for node in found:
                items.extend(session.genitems(node))
            if not found and not self.trouble_collecting:
                missing.append(f"not found: {'::'.join([unit.path, *names])}\n(no match in any of {named!r})")
        if missing:
            raise pytest.UsageError(*missing)
        hook = session.config.hook
        try:
            hook.pytest_collection_modifyitems(session=session, config=session.config, items=items)
        finally:
            hook.pytest_collection_finish(session=session)
        session.testscollected += len(items)

    def match(self, node, names, seen):
        """The nodes below this one that the names lead to, as Session.collect finds them. `seen` makes two arguments with the
        same class share it."""
        if not names:
            return [node]
        if not isinstance(node, pytest.Collector):
            return []
        report = seen.get(node)
        if report is None:
            report = seen[node] = pytest_runner.collect_one_node(node)
            if not report.passed:
                node.ihook.pytest_collectreport(report=report)
        found = []
        for child in report.result if report.passed else ():
            if child.name == names[0] or child.name.split("[")[0] == names[0]:
                found.extend(self.match(child, names[1:], seen))
        return found

    def declare(self, lease):
        entries, size = [], 0
        for case in lease.cases:
            if size > CHUNK:
                self.wire.push(f'{{"event":"declare","lease":{lease.number},"cases":[{",".join(entries)}],"more":true}}\n')
                entries, size = [], 0
            entry = self.describe(case)
            entries.append(entry)
            size += len(entry)
        self.wire.push(f'{{"event":"declare","lease":{lease.number},"cases":[{",".join(entries)}],"more":false}}\n')

    @staticmethod
    def describe(case):
        """A declared case, with the names that pytest's own JUnit report would give it."""
        id = case.id
        entry = f'{{"id":{_dumps(id)}'
        if case.n:
            entry += f',"n":{case.n}'
        if case.item is None:
            return entry + "}"
        base, bracket, parameters = id.partition("[")
        place, *names = base.split("::")
        if names:
            place = place[:-3] if place.endswith(".py") else place
            group = ".".join([place.replace("/", "."), *names[:-1]])
            entry += f',"name":{_dumps(names[-1] + bracket + parameters)},"class":{_dumps(group)}'
        try:
            file, line, _ = case.item.location
        except Exception:  # an item that cannot say where it is; pytest will tell in its own way when it runs
            return entry + "}"
        entry += f',"file":{_dumps(clean(str(file)))}'
        if line is not None:
            entry += f',"line":{line + 1}'
        return entry + "}"

    # A case.

    def run(self, lease):
        index = lease.next
        lease.next = index + 1
        case = lease.cases[index]
        self.send(f'{{"event":"start","lease":{lease.number},"case":{index},"at":{now()}}}\n')
        item = case.item
        if item is None:
            self.end(lease, index, case.verdict)
            self.receive(wait=False)
            return
        if index + 1 < lease.limit:
            nextitem = lease.cases[index + 1].item
        elif self.stopping and not self.queue:
            nextitem = None
        else:
            nextitem = self.ahead
        self.reports = []
        self.subtests = False
        self.waited = 0
        self.make_room_for(item)
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            self.stay_one()
            self.receive(wait=False)
            if nextitem is not None and nextitem is not self.ahead and lease.next >= lease.limit:
                self.tear_down_further(item)
        except pytest.exit.Exception as error:
            # Plain pytest ends here too. What has not run is not reported; the agent gives it to another process.
            self.end(lease, index, Verdict("error", one_line(f"pytest.exit: {error}")))
            raise
        except KeyboardInterrupt:
            raise  # from outside, most likely; the agent knows better than we what this makes of the case
        except BaseException as error:
            self.end(lease, index, Verdict("error", one_line(f"{type(error).__name__}: {error}"), [("", trace(error))]))
            raise
        self.end(lease, index, self.verdict())
        session = self.session
        if session.shouldfail or session.shouldstop:
            reason = session.shouldfail or session.shouldstop
            self.give_up(f"pytest was told to stop after {case.id}: {reason}")
            raise session.Failed(reason) if session.shouldfail else session.Interrupted(reason)

    def stay_one(self):
        """A child that a test forked and that came back from it would go on to run the tests that are its parent's to run."""
        if not self.wire.ours():
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(1 if any(report.failed for report in self.reports) else 0)

    def make_room_for(self, item):
        """Tears down what was kept for a unit that then did not come. Errors go to this item: the one that they belong to has
        ended, and they must not be lost."""
        state = self.session._setupstate
        stack = list(state.stack)
        if stack != item.listchain()[: len(stack)]:
            self.tear_down(item)

    def let_go(self):
        """Tears down everything: nothing comes behind."""
        if self.session._setupstate.stack:
            self.tear_down(None)

    def tear_down(self, nextitem):
        try:
            self.session._setupstate.teardown_exact(nextitem)
        except pytest.exit.Exception:
            raise
        except (Exception, pytest.skip.Exception, pytest.fail.Exception, SystemExit) as error:
            self.orphans.append((one_line(f"{type(error).__name__}: {error}"), trace(error)))

    def tear_down_further(self, item):
        """The tests behind this one were given back while it ran: what its tear-down kept for them goes after all, and is part
        of this test still."""
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        with capture.item_capture("teardown", item) if capture else contextlib.nullcontext():
            call = pytest_runner.CallInfo.from_call(
                lambda: self.session._setupstate.teardown_exact(self.ahead),
                when="teardown",
                reraise=(pytest.exit.Exception, KeyboardInterrupt),
            )
        if call.excinfo is not None:
            report = item.ihook.pytest_runtest_makereport(item=item, call=call)
            item.ihook.pytest_runtest_logreport(report=report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report):
        self.reports.append(report)
        if is_subtest(report):
            self.subtests = True
        elif self.subtests:
            # pytest turns a test with failed subtests into a failed one as it asks for the status, which is the silenced
            # terminal's habit; other plugins shall see what they are used to.
            self.config.hook.pytest_report_teststatus(report=report, config=self.config)

    def verdict(self):
        """What the reports of the item that ran come to."""
        duration = 0.0
        phases = {}
        failures, skipped, last = [], None, None
        outcome = "passed"
        for report in self.reports:
            said = report.outcome
            if said == "failed":
                failures.append(report)
                if report.when == "call":
                    outcome = "failed"
                elif outcome != "failed":
                    outcome = "error"
            if is_subtest(report):
                continue  # a part of the test, whose own report comes too
            if said == "skipped":
                skipped = report
            last = report
            took = getattr(report, "duration", 0.0)
            duration += took
            phases[report.when] = phases.get(report.when, 0.0) + took
        if skipped is not None and not failures:
            verdict = Verdict("skipped", skip_reason(skipped))
        else:
            verdict = Verdict(outcome)
        if failures:
            verdict.message = headline(failures[0])
            verdict.details = [(report.when, report.longreprtext) for report in failures]
        if last is None and not failures:
            verdict = Verdict("error", "pytest reported nothing on this test")
        for message, text in self.orphans:
            verdict.charge("tear-down of an earlier test", message, text)
        self.orphans = []
        # Each report repeats the sections of those before it.
        if last is not None and last.sections:
            verdict.outputs = outputs(last.sections)
        if self.waited:
            duration -= self.waited / 1e6
            phases["teardown"] = phases.get("teardown", 0.0) - self.waited / 1e6
        verdict.duration = max(0, round(duration * 1e6))
        if (phases.get("setup", 0.0) + phases.get("teardown", 0.0)) * 1e6 >= WORTH_TELLING:
            verdict.phases = {when: max(0, round(took * 1e6)) for when, took in phases.items()}
        return verdict

    def end(self, lease, index, verdict):
        head = (
            f'{{"event":"end","lease":{lease.number},"case":{index},"at":{now()},'
            f'"outcome":"{verdict.outcome}","duration_us":{verdict.duration}'
        )
        line = head + verdict.fields() + "}\n"
        if len(line) * 4 > LINE_LIMIT and len(line.encode("utf-8")) > LINE_LIMIT:
            line = head + verdict.fields(TEXT_LIMIT // 32) + "}\n"
            if len(line.encode("utf-8")) > LINE_LIMIT:
                verdict.outputs, verdict.details = (), [("", "[left out by Evenkeel: too long]")]
                line = head + verdict.fields() + "}\n"
        self.wire.push(line)

    # The end.

    def say(self, level, text):
        self.send(_dumps({"event": "log", "level": level, "text": cut(text, TEXT_LIMIT // 16)}) + "\n")

    def give_up(self, text):
        """The process must not end as if all were well."""
        self.broken = text
        self.say("error", text)

    def pytest_keyboard_interrupt(self, excinfo):
        self.stopped(f"pytest was stopped: {excinfo.exconly()}")

    def pytest_internalerror(self, excrepr, excinfo):
        self.stopped(f"pytest itself failed: {excinfo.exconly()}\n{excrepr}")

    def stopped(self, text):
        if self.looping and not self.broken:
            self.give_up(text)
        self.broken = self.broken or text

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session):
        outcome = yield
        if outcome.excinfo is not None:
            self.done = False
            self.give_up(f"pytest could not finish: {outcome.excinfo[1]!r}\n{trace(outcome.excinfo[1])}")
        # Outcomes are the agent's to judge; the status says only whether this process did its work.
        if self.done and not self.broken:
            session.exitstatus = 0
        elif session.exitstatus in (0, 1, 5):
            session.exitstatus = BROKEN

    def refuse(self, reason, message, hint=None):
        self.refused = True
        event = {"event": "refused", "reason": reason, "message": cut(message.strip(), TEXT_LIMIT // 16)}
        if hint:
            event["hint"] = hint
        self.send(_dumps(event) + "\n")

    def farewell(self):
        """The last that is sent. pytest calls it at the end of its configuration, on every way out, with the exception that
        ends it still at hand; the interpreter's exit does, if even that was left out."""
        if self.gone or not self.wire.ours():
            return
        self.gone = True
        error = sys.exc_info()[1]
        if self.done and not self.broken and error is None:
            self.wire.push('{"event":"bye"}\n')
        elif not self.looping and not self.refused:
            if isinstance(error, pytest.UsageError):
                self.refuse("usage", "\n".join(map(str, error.args)))
            elif isinstance(error, ConftestImportFailure):
                self.refuse("usage", conftest_error(error))
            else:
                said = self.broken or (trace(error) if error else "pytest ended before it was ready; its output says why")
                self.refuse("broken", said)
        with contextlib.suppress(OSError):
            self.wire.flush()

    def leave(self):
        """The agent has gone, or talks nonsense: there is nobody to report to. What the fixtures hold is still given back."""
        if not self.wire.ours():
            return
        self.gone = True
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(FAREWELL_SECONDS)
        with contextlib.suppress(BaseException):
            self.session._setupstate.teardown_exact(None)
        os._exit(BROKEN)


_address = _clean_environment()
_wire = Wire(_address) if _address is not None else None


def pytest_addoption(parser, pluginmanager):
    """The first hook that pytest calls, with the plugin hardly loaded: from here on no way out goes unnoticed."""
    global _wire
    wire, _wire = _wire, None
    if wire is not None:
        config = pluginmanager.get_plugin("pytestconfig")
        slot = Slot(wire, config)
        pluginmanager.register(slot, "evenkeel-slot")
        config.add_cleanup(slot.farewell)
        atexit.register(slot.farewell)
