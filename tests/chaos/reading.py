"""A run as a store holds it: its line in the table of runs, and the rows of its ledger."""

import sqlite3
import subprocess


class Unreadable(Exception):
    """There is nothing that could be checked."""


RUN = "SELECT id, verdict, exit_code, tests, failures FROM runs WHERE run = {run} ORDER BY id"
LEDGER = "SELECT sequence, epoch, {previous}, {payload} FROM ledger WHERE run = {number} ORDER BY sequence"


def run(store, name):
    """`store`: sqlite:FILE or a URL of PostgreSQL. The line has number, verdict, exit code, tests and failures."""
    kind, _, place = store.partition(":")
    if kind == "sqlite":
        lines, rows = _sqlite(place, name)
    elif kind in ("postgres", "postgresql"):
        lines, rows = _postgres(store, name)
    else:
        raise Unreadable(f"{store}: sqlite:FILE or postgres://… is a store")
    return lines, rows


def _one(lines, name):
    if len(lines) != 1:
        raise Unreadable(f"the store holds {len(lines)} runs named {name}")
    return lines[0]


def _sqlite(path, name):
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        line = _one(database.execute(RUN.format(run="?"), (name,)).fetchall(), name)
        ledger = LEDGER.format(previous="previous", payload="payload", number="?")
        rows = database.execute(ledger, (line[0],)).fetchall()
        database.close()
    except sqlite3.Error as error:
        raise Unreadable(f"{path}: {error}") from error
    return line, rows


def _postgres(url, name):
    def ask(query):
        words = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator=|", url, "--command", query]
        asked = subprocess.run(words, capture_output=True, text=True)
        if asked.returncode:
            raise Unreadable(asked.stderr.strip())
        return [line.split("|") for line in asked.stdout.splitlines() if line]

    quoted = "'" + name.replace("'", "''") + "'"
    text = _one(ask(RUN.format(run=quoted)), name)
    line = (int(text[0]), text[1] or None, *(int(value) if value else None for value in text[2:]))
    ledger = LEDGER.format(previous="encode(previous, 'hex')", payload="encode(payload, 'hex')", number=line[0])
    rows = [(int(row[0]), int(row[1]), bytes.fromhex(row[2]), bytes.fromhex(row[3])) for row in ask(ledger)]
    return line, rows
