"""Hooks of others that pytest would call once with all tests, and a slot calls once a file.

Owns the word to the user on it, not the calls. Where everything is collected at once nothing of this is used. PYTEST_DONT_REWRITE
"""

import os
import sys

REMEDY = 'If it needs all tests at once: collect = "whole" in evenkeel.toml, or --collect whole'


def others(hook):
    """The implementations of a hook that are not pytest's own nor ours."""
    own = ("_pytest.", f"{__package__}.")
    return [impl for impl in hook.get_hookimpls() if not getattr(impl.function, "__module__", "").startswith(own)]


def name_of(impl, config):
    """A plugin as its user knows it: the path of a conftest.py, the distribution, or the name."""
    for plugin, distribution in config.pluginmanager.list_plugin_distinfo():
        if plugin is impl.plugin:
            return distribution.project_name
    name = str(impl.plugin_name)
    return os.path.relpath(name, str(config.rootpath)) if os.path.isabs(name) else name


class FileItems(list):
    """`session.items` while tests run: those of one file. Whoever goes through them then means all."""

    watch = None  # on who looks; taken away when that has been told

    def __iter__(self):
        if self.watch is not None:
            self.watch.read(sys._getframe(1))
        return super().__iter__()


class Watch:
    """Says once, for each implementation, that it changed the list of a file's tests."""

    def __init__(self, config, say):
        self.config = config
        self.say = say
        for impl in others(config.hook.pytest_collection_modifyitems):
            # What a wrapper does to the list cannot be told from what others do in it.
            if "items" in impl.argnames and not (impl.hookwrapper or getattr(impl, "wrapper", False)):
                self.watch(impl)
        self.finishers = others(config.hook.pytest_collection_finish)
        self.items = None  # the list that is watched

    def over(self, items):
        """Tests are about to run, with this list in the session."""
        if isinstance(items, FileItems):
            self.items, items.watch = items, self

    def read(self, frame):
        """Somebody goes through the list, in this frame."""
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("_pytest.", "pluggy", f"{__package__}.")):
            self.items.watch = None
            self.over = lambda items: None
            place = f"{os.path.relpath(frame.f_code.co_filename, str(self.config.rootpath))}:{frame.f_lineno}"
            self.say("warning", f"session.items is read at {place}, and has the tests of one file only. {REMEDY}")

    def watch(self, impl):
        plain, at = impl.function, impl.argnames.index("items")

        def watched(*arguments):
            items = arguments[at]
            before = items[:]
            result = plain(*arguments)
            if items != before:
                impl.function = plain
                self.changed(impl, before, items)
            return result

        watched.__module__ = plain.__module__
        impl.function = watched

    def changed(self, impl, before, after):
        kept = set(after)
        if kept.issuperset(before):
            what = "reorders tests" if len(before) == len(after) else "adds tests"
        else:
            what = "deselects tests"
        self.tell(impl, f"{what} in pytest_collection_modifyitems")

    def finished(self):
        """A second file is loaded, so that pytest_collection_finish has been called twice."""
        finishers, self.finishers = self.finishers, []
        for impl in finishers:
            self.tell(impl, "has a pytest_collection_finish")

    def tell(self, impl, what):
        name = name_of(impl, self.config)
        self.say("info", f"{name} {what}, which here is called for one file at a time. {REMEDY}")
