"""Text on its way out: what UTF-8 cannot carry, what is too long, what has to be one line.

Knows nothing of pytest's reports; those are read in reports.py. PYTEST_DONT_REWRITE
"""

import json
import re
import traceback

LINE_LIMIT = 15 << 20  # bytes; the protocol allows 16 MiB, the rest is for what stands around the texts
TEXT_LIMIT = 1 << 20  # bytes of one text of a case: an output, a detail
CHUNK = 1 << 18  # characters of one `listed` or `declare`, roughly
MESSAGE_LIMIT = 1000  # characters of the one line that says what went wrong

# Bound early, as is whatever runs while a test has its mocks in place.
dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
loads = json.JSONDecoder().decode
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


def trace(error):
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))
