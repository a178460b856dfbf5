"""What is told of a case at its end, and how pytest's reports on it come to that.

No judgement is made here that pytest did not make: an outcome is what its reports say. PYTEST_DONT_REWRITE
"""

from .reports import heading, headline, is_subtest, long_text, outputs, properties, skip_reason
from .text import LINE_LIMIT, TEXT_LIMIT, cut, dumps

FAILURES = ("failed", "error")
WORTH_TELLING = 1000  # microseconds of set-up or tear-down from which the phases are worth their bytes


class Verdict:
    __slots__ = ("outcome", "message", "details", "outputs", "duration", "phases", "properties", "setup")

    def __init__(self, outcome, message="", details=(), outputs=(), duration=0, phases=None, properties=()):
        self.outcome = outcome
        self.message = message
        self.details = details  # (heading, text)
        self.outputs = outputs
        self.duration = duration  # microseconds, as are the phases and the set-up
        self.setup = 0  # of what tests of the unit share
        self.phases = phases
        self.properties = properties  # (name, value), texts

    def charge(self, heading, message, text):
        """Adds an error that came from around the test."""
        if self.outcome != "failed":
            self.outcome = "error"
        self.message = self.message or message
        self.details = [*self.details, (heading, text)]

    def add_output(self, name, text):
        if text:
            self.outputs = [*self.outputs, {"name": name, "text": text}]

    def fields(self, limit=TEXT_LIMIT):
        """The optional fields of an `end`, with a comma in front of each."""
        parts = []
        if self.message:
            parts.append(f',"message":{dumps(self.message)}')
        details = [(heading, text) for heading, text in self.details if text]
        if details:
            texts = (f"---- {heading} ----\n{text}" if heading else text for heading, text in details)
            text = "\n\n".join(texts)
            parts.append(f',"detail":{dumps(cut(text, limit))}')
        if self.outputs:
            told = [dict(output, text=cut(output["text"], limit)) for output in self.outputs]
            parts.append(f',"output":{dumps(told)}')
        if self.properties:
            told = [(cut(name, limit), cut(value, limit)) for name, value in self.properties]
            parts.append(f',"properties":{dumps(told)}')
        if self.setup >= WORTH_TELLING:
            parts.append(f',"setup_us":{self.setup}')
        if self.phases:
            parts.append(f',"phases_us":{dumps(self.phases)}')
        return "".join(parts)

    def end(self, lease, index, at):
        """The event `end`, as a line."""
        head = (
            f'{{"event":"end","lease":{lease},"case":{index},"at":{at},'
            f'"outcome":"{self.outcome}","duration_us":{self.duration}'
        )
        line = head + self.fields() + "}\n"
        if len(line) * 4 > LINE_LIMIT and len(line.encode("utf-8")) > LINE_LIMIT:
            line = head + self.fields(TEXT_LIMIT // 32) + "}\n"
            if len(line.encode("utf-8")) > LINE_LIMIT:
                self.outputs, self.properties, self.details = (), (), [("", "[left out by Evenkeel: too long]")]
                line = head + self.fields() + "}\n"
        return line


class Reports:
    """pytest's reports on the item that runs."""

    def __init__(self):
        self.list = []
        self.said = []  # what each came to when it was heard: whoever changes it later changes no count of pytest's either
        self.subtests = False  # whether it had any

    def add(self, report, config):
        self.list.append(report)
        if is_subtest(report):
            self.subtests = True
        elif self.subtests:
            # pytest turns a test with failed subtests into a failed one as it asks for the status, which is the silenced
            # terminal's habit; other plugins shall see what they are used to.
            config.hook.pytest_report_teststatus(report=report, config=config)
        self.said.append(report.outcome)

    def failed(self):
        return "failed" in self.said

    def verdict(self, waited):
        """What they come to. `waited`: microseconds of the tear-down that were not the test's."""
        duration = 0.0
        phases = {}
        failures, skipped, last, repeated = [], None, None, []
        outcome = "passed"
        for report, said in zip(self.list, self.said):
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
            elif said not in ("passed", "failed"):
                repeated.append(report)  # by a plugin that runs failed tests again, and says that this failure does not count
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
            several = len(failures) > 1
            verdict.details = [(heading(report, several), long_text(report)) for report in failures]
        if last is None and not failures:
            verdict = Verdict("error", "pytest reported nothing on this test")
        # Each report repeats the sections of those before it.
        if last is not None and last.sections:
            verdict.outputs = outputs(last.sections)
        for number, report in enumerate(repeated, 1):
            verdict.add_output(f"{report.outcome} {number}", report.longreprtext)
        if last is not None:
            verdict.properties = properties(last)
        if waited:
            duration -= waited / 1e6
            phases["teardown"] = phases.get("teardown", 0.0) - waited / 1e6
        verdict.duration = max(0, round(duration * 1e6))
        if (phases.get("setup", 0.0) + phases.get("teardown", 0.0)) * 1e6 >= WORTH_TELLING:
            verdict.phases = {when: max(0, round(took * 1e6)) for when, took in phases.items()}
        return verdict
