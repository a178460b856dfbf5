"""pytest's own talk, silenced: a slot's output belongs to the tests.

Leaves every other plugin's output alone. PYTEST_DONT_REWRITE
"""

import contextlib
import io


class Void(io.TextIOBase):
    """Where pytest's own talk goes."""

    encoding = "utf-8"

    def write(self, text):
        return len(text)


def silence(config):
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
