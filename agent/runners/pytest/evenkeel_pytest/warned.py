"""Warnings that pytest collected, on their way to the agent, each text once with the tests that it comes from.

Which warnings there are, and their wording, is pytest's. PYTEST_DONT_REWRITE
"""

from _pytest.warnings import warning_record_to_str

from .text import TEXT_LIMIT, clean, cut, dumps

CASES = 10  # that are named for one text


class Warned:
    def __init__(self):
        self.wanted = True
        self.found = {}  # text -> (ids of cases, how many there were)

    def configure(self, option):
        """What came before the options were known is kept until then."""
        self.wanted = not (getattr(option, "disable_warnings", False) or getattr(option, "no_summary", False))
        if not self.wanted:
            self.found.clear()

    def add(self, message, nodeid):
        if not self.wanted:
            return
        text = cut(warning_record_to_str(message), TEXT_LIMIT // 16).rstrip()
        cases, count = self.found.get(text) or ([], 0)
        if nodeid:
            count += 1
            if len(cases) < CASES:
                cases.append(clean(nodeid))
        self.found[text] = (cases, count)

    def tell(self, wire):
        """Pushes what came since the last time. Told now and then, so that a process that dies has said most of it."""
        if self.found:
            found, self.found = self.found, {}
            list = [{"text": text, "cases": cases, "count": count} for text, (cases, count) in found.items()]
            wire.push(dumps({"event": "warnings", "list": list}) + "\n")
