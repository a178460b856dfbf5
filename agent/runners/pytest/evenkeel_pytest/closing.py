"""What pytest and its plugins say when all tests are done: that the run fails although no test did, and what they print.

Owns the last event. Whether a test failed is no matter of this. PYTEST_DONT_REWRITE
"""

from .text import LINE_LIMIT, TEXT_LIMIT, cut, dumps, one_line, trace

CARRY_LIMIT = 8 << 20  # characters, by the protocol


class Closing:
    def __init__(self):
        self.failed = []
        self.carry = None  # for the process that concludes the run
        self.expected = 0  # failures that pytest's session has counted for a reason that the agent knows

    def fail(self, message, detail=""):
        self.failed.append({"message": one_line(message), "detail": cut(detail)})

    def fail_by(self, error, where):
        self.fail(f"{where}: {type(error).__name__}: {error}", trace(error))

    def count(self, report):
        """Mirrors what the session counts, to find out who else counts there."""
        if report.failed and not hasattr(report, "wasxfail"):
            self.expected += 1

    def judge(self, session, terminal, status_before):
        """A plugin fails a run in one of two ways: it counts a failure more, or sets the exit status."""
        more = session.testsfailed - self.expected
        status = int(session.exitstatus)
        if more > 0:
            self.fail(terminal.judgement() or f"a plugin counts {more} more failed than there are failed tests")
        elif status not in (0, status_before):
            said = terminal.judgement()
            self.fail(f"exit status {status} was set at the end of the session" + (f": {said}" if said else ""))

    def bye(self, terminal):
        event = {"event": "bye"}
        if self.failed:
            event["failed"] = self.failed
        summary = [{"title": cut(title), "text": cut(text)} for title, text in terminal.sections()] if terminal else []
        if summary:
            event["summary"] = summary
        if self.carry is not None:
            event["carry"] = self.carry
        line = dumps(event) + "\n"
        if len(line.encode("utf-8")) > LINE_LIMIT:
            for entry in (*self.failed, *summary):
                entry.update({name: cut(text, TEXT_LIMIT // 64) for name, text in entry.items()})
            line = dumps(event) + "\n"
        return line
