"""Bytecode and rewritten asserts, kept between slots and runs in a directory of Evenkeel's own.

PYTHONDONTWRITEBYTECODE, a checkout that is new each time or one that cannot be written make every process compile what it
imports. PYTHONPYCACHEPREFIX would help, but hides what is compiled already (the standard library, installed packages), is seen by
tests, and reaches the processes that they start. So this looks where Python would look, then in the own directory, and writes
only there. What is kept is valid by the hash of its source.

Nothing that a test can ask for changes: os.environ, sys.flags, sys.dont_write_bytecode, sys.pycache_prefix, a module's __cached__.
No frame of this file is on the stack when a source does not compile, so that tracebacks are as ever: whatever cannot be kept is
left to Python and pytest to do again. PYTEST_DONT_REWRITE
"""

import importlib.util
import marshal
import os
import sys
import time
import warnings
from importlib.machinery import SourceFileLoader

MAGIC = importlib.util.MAGIC_NUMBER
BY_TIME = b"\0\0\0\0"  # PEP 552: valid by the source's time and size
BY_HASH = b"\1\0\0\0"  # valid by its hash, which is not to be checked again


class Kept:
    """The own directory: files named by where Python would have put them."""

    def __init__(self, directory):
        self.directory = directory
        self.started = time.time()

    def code(self, usual, source, compiled):
        """The bytecode of `source`, with its header, that belongs at `usual`: kept, or else made by `compiled` from the source's
        bytes and kept from now on. None if there is nothing to keep."""
        try:
            if not os.path.isabs(usual) or os.stat(source).st_ctime >= self.started:
                return None  # what tests write while they run is theirs, and rarely met again
            with open(source, "rb") as file:
                text = file.read()
        except OSError:
            return None
        header = MAGIC + BY_HASH + importlib.util.source_hash(text)
        path = self.directory + usual
        try:
            with open(path, "rb") as file:
                data = file.read()
            if data[:16] == header:
                return data
        except OSError:
            pass
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                code = compiled(text)
            for warning in said:  # may raise, where the user wants errors
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        except Exception:
            return None
        data = header + marshal.dumps(code)
        if not said:  # else it would not be said the next time
            self.write(path, data)
        return data

    @staticmethod
    def write(path, data):
        partial = f"{path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(partial, "wb") as file:
                file.write(data)
            os.replace(partial, path)
        except OSError:
            pass  # then it is compiled again


def install(directory):
    """To be called before anything is imported that is worth keeping. A place that the user chose for bytecode wins."""
    if sys.pycache_prefix is None:
        kept = Kept(directory)
        keep_bytecode(kept)
        keep_rewritten(kept)


def keep_bytecode(kept):
    """importlib asks its loader for the content of the file that should hold the bytecode."""
    plain = SourceFileLoader.get_data

    def get_data(self, path):
        # A loader derived from it compiles in its own way; a path other than that of the bytecode is the source, or a resource.
        if type(self) is not SourceFileLoader or not path.endswith(".pyc") or path == self.path:
            return plain(self, path)
        source = self.path
        try:
            data = plain(self, path)
            if data[:4] == MAGIC and (data[4:8] != BY_TIME or data[8:16] == stamp(source)):
                return data
        except OSError:
            data = None
        if path == importlib.util.cache_from_source(source):
            data = kept.code(path, source, lambda text: self.source_to_code(text, source)) or data
        return plain(self, path) if data is None else data

    SourceFileLoader.get_data = get_data


def stamp(source):
    stat = os.stat(source)
    mask = 0xFFFFFFFF
    return (int(stat.st_mtime) & mask).to_bytes(4, "little") + (stat.st_size & mask).to_bytes(4, "little")


def keep_rewritten(kept):
    """pytest's import hook asks a function for the rewritten code; if that has none, it rewrites the source and writes the
    result beside it. Another pytest in this process, as in tests of plugins, has a hook of its own and is left alone."""
    rewrite = sys.modules.get("_pytest.assertion.rewrite")
    if rewrite is None or not all(hasattr(rewrite, name) for name in ("_read_pyc", "_rewrite_test", "try_makedirs")):
        return
    hook = next((finder for finder in sys.meta_path if isinstance(finder, rewrite.AssertionRewritingHook)), None)
    if hook is None:
        return
    read, makedirs = rewrite._read_pyc, rewrite.try_makedirs

    def ours():
        return sys._getframe(2).f_locals.get("self") is hook

    def read_pyc(source, pyc, *trace):
        code = read(source, pyc, *trace)
        # With this setting the rewritten code is another, and pytest's own files do not tell either.
        if code is None and ours() and not hook.config.getini("enable_assertion_pass_hook"):
            data = kept.code(str(pyc), str(source), lambda text: rewrite._rewrite_test(source, hook.config)[1])
            code = data and marshal.loads(data[16:])
        return code

    def try_makedirs(cache_dir):
        return False if ours() else makedirs(cache_dir)  # pytest takes it for a directory that cannot be written

    rewrite._read_pyc = read_pyc
    rewrite.try_makedirs = try_makedirs
