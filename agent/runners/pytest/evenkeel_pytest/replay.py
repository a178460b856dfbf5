"""Reports of all slots, for plugins that write one file on the whole run.

Such a plugin writes in xdist's controller, which hears what all workers report, and does nothing in a worker. So a slot keeps its
reports where such a file is asked for, and the process that concludes the run hears them, one slot after the other.
PYTEST_DONT_REWRITE
"""

import base64
import json
import zlib

# Options by which the plugins that were tried are asked for their file. Nothing in a worker tells that they would write one.
FILES = (
    "htmlpath",  # pytest-html
    "json_report",  # pytest-json-report
    "report_log",  # pytest-reportlog
)


def wanted(config):
    return any(getattr(config.option, name, None) for name in FILES)


def encode(value):
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


# Bound early: a test's mocks may be in place when its report comes.
pack = json.JSONEncoder(default=encode, skipkeys=True, separators=(",", ":")).encode


def decode(value):
    return base64.b64decode(value["base64"]) if set(value) == {"base64"} else value


class Kept:
    """The reports of this process, packed as they come."""

    def __init__(self, config):
        self.config = config
        self.packer = zlib.compressobj()
        self.packed = []

    def add(self, report):
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        if data is None:
            return
        data["worker_id"] = self.config.workerinput["workerid"]
        data["testrun_uid"] = self.config.workerinput["testrunuid"]
        line = pack(data) + "\n"
        self.packed.append(self.packer.compress(line.encode("ascii")))

    def add_collected(self, report):
        if not report.passed:  # xdist's workers do not send the others either
            self.add(report)

    def take(self):
        return base64.b64encode(b"".join(self.packed) + self.packer.flush()).decode("ascii")


def play(config, node, text):
    """Lets everybody hear what a slot reported."""
    hook, at_work = config.hook, None
    for line in zlib.decompress(base64.b64decode(text)).decode("ascii").splitlines():
        data = json.loads(line, object_hook=decode)
        report = hook.pytest_report_from_serializable(config=config, data=data)
        if report is None:
            continue
        report.node = node
        if getattr(report, "when", "collect") == "collect":
            hook.pytest_collectreport(report=report)
            continue
        if report.nodeid != at_work:
            at_work = report.nodeid
            hook.pytest_runtest_logstart(nodeid=report.nodeid, location=report.location)
        hook.pytest_runtest_logreport(report=report)
        if report.when == "teardown":
            at_work = None
            hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)
