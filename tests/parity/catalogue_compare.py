"""What a run came to, and in what two runs differ: one of plain pytest, one of Evenkeel."""

import collections
import json
import os
import re
import xml.etree.ElementTree as etree

EXIT = {0: 0, 1: 1, 3: 3, 4: 2, 5: 4}  # plain pytest's status -> Evenkeel's
ODDITIES = (
    (re.compile(r"\b0x[0-9a-f]{6,}"), "0x"),
    (re.compile(r"pytest-of-\w+/pytest-\d+/"), "TMP/"),
    (re.compile(r"popen-gw\d+/"), ""),
    (re.compile(r"\boldfd=\d+"), "oldfd"),
    (re.compile(r"\bThread-\d+"), "Thread"),
    (re.compile(r"(, )?\b(testrun_uid|worker_id)\b"), ""),  # fixtures that are there as under pytest-xdist
    (re.compile(r"\b\d+\.\d+ ?s\b"), "0 s"),
)


def plain_text(text, room):
    text = text.replace(f"{room}/suite", "ROOT").replace(room, "ROOM")
    for pattern, instead in ODDITIES:
        text = pattern.sub(instead, text)
    return text


class Seen:
    """Everything that a run left: records by process, exit status, what it printed, JUnit, and Evenkeel's report."""

    def __init__(self, room, status, printed, records, junit, report=None):
        self.status = status
        self.printed = plain_text(printed, room)
        self.processes = []
        for name in sorted(os.listdir(records)):
            with open(os.path.join(records, name), encoding="utf-8") as lines:
                self.processes.append([json.loads(plain_text(line, room)) for line in lines])
        self.junit = list(junit_cases(junit)) if os.path.exists(junit) else None
        self.report = None
        if report and os.path.exists(report):
            with open(report, encoding="utf-8") as text:
                self.report = json.loads(plain_text(text.read(), room))

    def all(self, kind):
        return [record for process in self.processes for record in process if record["kind"] == kind]

    def part(self, directory):
        """What belongs to one of the cases that shared the run."""
        other = object.__new__(Seen)
        vars(other).update(vars(self))

        def mine(path):
            return path.replace("ROOT/", "").startswith(directory + "/")

        def belongs(record):
            return mine(record["source"] if record["kind"] == "log" else record["nodeid"])

        other.processes = [[record for record in process if belongs(record)] for process in self.processes]
        if self.junit is not None:
            other.junit = [case for case in self.junit if mine(".".join(case[:2]).replace(".", "/"))]
        if self.report is not None:
            other.report = dict(self.report, tests=[test for test in self.report["tests"] if mine(test["id"])])
        return other


def junit_cases(path):
    """(class name, name, kind, [messages], [properties]) of each test case."""
    for case in etree.parse(path).getroot().iter("testcase"):
        told = [child for child in case if child.tag in ("failure", "error", "skipped")]
        kinds = {child.tag for child in told}
        kind = next((kind for kind in ("failure", "error", "skipped") if kind in kinds), "passed")
        messages = [child.get("message") or "" for child in told]
        properties = [(one.get("name"), one.get("value")) for one in case.iter("property")]
        properties = [one for one in properties if not one[0].startswith("evenkeel.")]
        yield case.get("classname"), case.get("name"), kind, messages, properties


def more_and_less(expected, seen):
    """The differences of two multisets, a line each."""
    expected, seen = collections.Counter(expected), collections.Counter(seen)
    for key in expected - seen:
        yield f"missing: {key}"
    for key in seen - expected:
        yield f"too much: {key}"


def frozen(value):
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def file_of(nodeid):
    return nodeid.split("::")[0]


class Comparison:
    """One case at one number of slots. Each method is a check of that name, and yields what differs."""

    def __init__(self, case, plain, ours, slots):
        self.case = case
        self.plain = plain
        self.ours = ours
        self.slots = slots

    CHECKS = ("reports", "order", "texts", "captured", "properties", "collection", "deselected", "warnings", "log", "verdicts", "details", "outputs", "junit", "printed", "says")

    def differences(self, but=()):
        for check in self.CHECKS:
            if check not in self.case.apart and check not in but:
                for line in getattr(self, check)():
                    yield f"{check}: {line}"

    def reports_of(self, seen):
        return [report for report in seen.all("report") if report["nodeid"] not in self.case.tests]

    def field(self, *names):
        """The reports of both sides by node id, phase and these fields."""
        for seen in (self.plain, self.ours):
            yield [tuple(frozen(report[name]) for name in ("nodeid", "when", *names)) for report in self.reports_of(seen)]

    def reports(self):
        yield from more_and_less(*self.field("outcome", "type", "wasxfail", "location"))

    def order(self):
        """One slot keeps pytest's order. On more a file may be split; then each test keeps the order of its phases."""
        plain, ours = self.field("outcome")
        if self.slots > 1:
            plain, ours = (sorted(all, key=lambda report: report[0]) for all in (plain, ours))
        if sorted(plain) == sorted(ours):
            for left, right in zip(plain, ours):
                if left != right:
                    yield f"{right} instead of {left}"
                    return

    def texts(self):
        yield from more_and_less(*self.field("text"))

    def captured(self):
        yield from more_and_less(*self.field("sections"))

    def properties(self):
        yield from more_and_less(*self.field("properties"))

    def collection(self):
        """What could not be collected; each process meets it that walks by it."""
        plain, ours = ({(record["nodeid"], record["outcome"], record["text"]) for record in seen.all("collect")} for seen in (self.plain, self.ours))
        yield from more_and_less(plain, ours)

    def deselected(self):
        yield from more_and_less(*([record["nodeid"] for record in seen.all("deselected")] for seen in (self.plain, self.ours)))

    def warnings(self):
        names = ("category", "text", "file", "line", "when", "nodeid")
        sides = [[tuple(record[name] for name in names) for record in seen.all("warning")] for seen in (self.plain, self.ours)]
        # Each process configures itself, and is warned of the configuration.
        yield from more_and_less(*([one for one in side if one[4] == "runtest"] for side in sides))
        yield from more_and_less(*({one for one in side if one[4] != "runtest"} for side in sides))

    def log(self):
        if self.slots == 1:
            plain, ours = ([record["text"] for record in seen.all("log")] for seen in (self.plain, self.ours))
            if plain != ours:
                yield f"{ours} instead of {plain}"
            return
        scopes = ("session", "package", "module", "class")
        plain, ours = ([(record["file"], record["text"]) for record in seen.all("log")] for seen in (self.plain, self.ours))
        yield from more_and_less(*([line for line in all if not line[1].startswith(scopes)] for all in (plain, ours)))
        once = collections.Counter(text for _, text in plain if text.startswith(scopes))
        for text in once:
            if not any(text == line[1] for line in ours):
                yield f"never: {text}"
        for process in self.ours.processes:
            seen = collections.Counter(record["text"] for record in process if record["kind"] == "log" and record["text"].startswith(scopes))
            yield from (f"more often in a process: {text}" for text in seen - once)
            for text, count in seen.items():
                down = text.replace(" up", " down")
                if " up" in text and once[text] == once[down] and seen[down] != count:
                    yield f"up {count} and down {seen[down]} times: {text}"

    def expected(self):
        """Plain pytest's reports as one verdict for each test, in their order: docs/pytest.md, "What a test comes to"."""
        verdicts = {}
        for record in self.plain.all("collect"):
            outcome, records = verdicts.get(record["nodeid"] or ".", ("skipped", []))
            outcome = "error" if record["outcome"] == "failed" else outcome
            verdicts[record["nodeid"] or "."] = (outcome, [*records, record])
        occurrence, last = {}, None
        for report in self.plain.all("report"):
            nodeid, subtest = report["nodeid"], "subtest" in report["type"].lower()
            if report["when"] == "setup" and last != (nodeid, "setup"):
                occurrence[nodeid] = occurrence.get(nodeid, -1) + 1
            last = (nodeid, report["when"])
            number = occurrence.setdefault(nodeid, 0)
            key = f"{nodeid}#{number}" if number else nodeid
            outcome, reports = verdicts.get(key, ("passed", []))
            if report["outcome"] == "failed":
                outcome = "failed" if report["when"] == "call" or outcome == "failed" else "error"
            elif report["outcome"] == "skipped" and not subtest and outcome == "passed":
                outcome = "skipped"
            verdicts[key] = (outcome, [*reports, report])
        return verdicts

    def tests(self):
        tests = self.ours.report["tests"] if self.ours.report else []
        return {f"{test['id']}#{test['occurrence']}" if test.get("occurrence") else test["id"]: test for test in tests}

    def verdicts(self):
        seen = {key: test["outcome"] for key, test in self.tests().items() if test["outcome"] != "not_run"}
        expected = {key: outcome for key, (outcome, _) in self.expected().items()}
        expected.update((key, outcome) for key, (outcome, _) in self.case.tests.items())
        yield from more_and_less(expected.items(), seen.items())
        for key, (_, part) in self.case.tests.items():
            message = self.tests().get(key, {}).get("message", "")
            if part not in message:
                yield f"{key} says {message!r}, without {part!r}"

    def details(self):
        """Each failure's long text and each skip's reason are in Evenkeel's report."""
        tests = self.tests()
        for key, (_, reports) in self.expected().items():
            test = tests.get(key)
            if test is None or key in self.case.tests:
                continue
            for report in reports:
                text = report["text"].strip("\n").rstrip()
                if report["outcome"] == "failed" and text not in test.get("detail", ""):
                    yield f"{key} has the detail {test.get('detail')!r} and not {text!r}"
                if report["outcome"] == "failed" and not test.get("message"):
                    yield f"{key} has no message"
            if test["outcome"] == "skipped":
                reason = next((report for report in reports if report["outcome"] == "skipped"), None)
                why = (reason.get("wasxfail") or reason["text"]) if reason else ""
                said = test.get("message", "")
                if said.replace("xfail: ", "").replace("xfail", "") not in why.replace("\\'", "'"):
                    yield f"{key} is skipped because of {said!r} and not {why!r}"

    def outputs(self):
        """What was captured is in Evenkeel's report, by stream."""
        tests = self.tests()
        for key, (_, reports) in self.expected().items():
            sections = [report["sections"] for report in reports if "subtest" not in report.get("type", "").lower()]
            if not sections or key not in tests or key in self.case.tests:
                continue
            titles = [(title.split()[1] if title.startswith("Captured ") else title, text) for title, text in sections[-1]]
            expected = [told for told in titles if told[1]]
            seen = [(output["name"], output["text"]) for output in tests[key].get("output", [])]
            if expected != seen:
                yield f"{key} printed {seen!r} and not {expected!r}"

    def junit(self):
        """Names, kinds and properties, where plain pytest's file has them. It counts a test twice whose call and tear-down fail."""
        if self.plain.junit is None or self.ours.junit is None:
            if self.plain.junit and not self.case.differs:
                yield "there is none"
            return

        def merged(cases):
            tests, order = {}, ("passed", "skipped", "error", "failure")
            for group, name, kind, messages, properties in cases:
                if kind == "skipped" and messages[0].startswith("not run"):
                    continue  # plain pytest says nothing of what -x left out
                kinds, all = tests.setdefault((group, name or "."), ([], []))  # the root, in pytest 7
                if kinds and kind == "error" and kinds[-1] == "failure":
                    continue
                kinds.append(kind)
                all += [one for one in properties if one not in all]
            return [(*key, tuple(sorted(kinds, key=order.index)), tuple(properties)) for key, (kinds, properties) in tests.items()]

        yield from more_and_less(merged(self.plain.junit), merged(self.ours.junit))

    def printed(self):
        """The lines of each failure that say what went wrong."""
        lines = {line.strip() for line in self.ours.printed.split("\n")}
        for key, (_, reports) in self.expected().items():
            for report in reports:
                if report["outcome"] == "failed" and key not in self.case.tests:
                    for line in report["text"].split("\n"):
                        if line.startswith("E ") and line.strip() not in lines:
                            yield f"not a word of {line!r}"

    def says(self):
        yield from (f"not a word of {text!r}" for text in self.case.says if text not in self.ours.printed)
        counts = {text: self.ours.printed.count(text) for text in self.case.once}
        yield from (f"{count} times: {text!r}" for text, count in counts.items() if count != 1)


def exit_status(case, plain, ours):
    expected = EXIT.get(plain.status, "one of its own") if case.exit is None else case.exit
    if ours.status != expected:
        yield f"exit: {ours.status} and not {expected}, plain pytest has {plain.status}"
