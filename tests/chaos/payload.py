"""Payloads of the ledger, read by the field numbers of ledger.proto and by nothing that was generated from it."""

import struct


class Damaged(Exception):
    """Bytes that are no payload of a ledger."""


# What a field is: `u` a number, `s` a text, `b` bytes, a dictionary another message; with `*` it may come several times. Fields that
# no rule looks at are left out.
CASE = {1: ("id", "s"), 2: ("occurrence", "u"), 3: ("name", "s"), 4: ("class", "s"), 5: ("file", "s")}
UNIT = {1: ("name", "s"), 2: ("path", "s"), 4: ("suite", "u")}
SUITE = {1: ("name", "s"), 3: ("command", "s*")}
ENTRIES = {
    1: ("run_opened", {2: ("run", "s"), 3: ("round", "u"), 16: ("suite", "s"), 20: ("suites", SUITE, "*")}),
    2: ("agent_joined", {1: ("agent", "u"), 2: ("name", "s"), 3: ("incarnation", "s")}),
    3: ("shard_opened", {1: ("shard", "u"), 2: ("agent", "u"), 3: ("slot", "u")}),
    4: ("process_started", {1: ("shard", "u"), 2: ("incarnation", "u"), 15: ("suite", "u")}),
    5: ("listed", {1: ("units", UNIT, "*"), 2: ("more", "u"), 3: ("whole", "u?")}),
    6: ("planned", {3: ("shards", {1: ("units", "u*")}, "*")}),
    7: ("leased", {
        1: ("lease", "u"), 2: ("generation", "u"), 3: ("unit", "u"), 4: ("shard", "u"), 5: ("alone", "u?"), 7: ("named", "u*"),
    }),
    8: ("revoked", {1: ("lease", "u"), 2: ("generation", "u"), 3: ("from", "u")}),
    9: ("unit_begun", {1: ("lease", "u"), 2: ("incarnation", "u"), 3: ("at_us", "u")}),
    10: ("declared", {1: ("lease", "u"), 2: ("known", "u*"), 3: ("cases", CASE, "*")}),
    11: ("attempt", {
        1: ("lease", "u"), 2: ("case", "u"), 3: ("outcome", "u"), 4: ("started_us", "u"), 5: ("ended_us", "u"),
        7: ("incarnation", "u"), 9: ("message", "s"), 10: ("text", "b"), 12: ("agent_lost", "u"),
    }),
    12: ("lease_ended", {1: ("lease", "u"), 2: ("reason", "u")}),
    13: ("process_ended", {1: ("shard", "u"), 2: ("incarnation", "u"), 5: ("unplanned", "u")}),
    14: ("agent_gone", {1: ("agent", "u"), 2: ("reason", "s"), 3: ("lost", "u")}),
    15: ("noted", {1: ("level", "u"), 2: ("text", "s")}),
    16: ("stopped", {1: ("reason", "s"), 2: ("interrupted", "u")}),
    17: ("settled", {1: ("unit", "u"), 2: ("case", "u?"), 3: ("outcome", "s"), 4: ("message", "s")}),
    18: ("closed", {1: ("verdict", "s"), 2: ("exit_code", "u"), 5: ("message", "s")}),
    19: ("evidence", {1: ("lease", "u"), 3: ("case", "u"), 4: ("outcome", "u"), 5: ("reason", "s")}),
    20: ("returned", {1: ("lease", "u"), 2: ("cases", "u*")}),
    21: ("objected", {1: ("shard", "u"), 2: ("message", "s")}),
    22: ("summarised", {1: ("shard", "u")}),
    23: ("warned", {1: ("text", "s")}),
    24: ("locked", {1: ("lock", "s"), 2: ("shard", "u"), 3: ("lease", "u")}),
    25: ("unlocked", {1: ("lock", "s"), 2: ("shard", "u")}),
    26: ("recovered", {1: ("epoch", "u")}),
    27: ("shard_closed", {1: ("shard", "u")}),
    28: ("unable", {1: ("shard", "u"), 2: ("suite", "u")}),
    29: ("carried", {1: ("shard", "u"), 2: ("suite", "u")}),
}
TAKEN = {1: ("agent", "u"), 2: ("sequence", "u")}


def number(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Damaged("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data):
    """The number, the kind and the value of each field, in order."""
    at = 0
    while at < len(data):
        key, at = number(data, at)
        kind = key & 7
        if kind == 0:
            value, at = number(data, at)
        elif kind == 2:
            length, at = number(data, at)
            value, at = data[at:at + length], at + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, at = data[at:at + length], at + length
        else:
            raise Damaged(f"a field of kind {kind}")
        if at > len(data):
            raise Damaged("a field is cut off")
        yield key >> 3, kind, value


def message(data, shape):
    read = {}
    for name, kind, *many in shape.values():
        if many or kind in ("u*", "s*"):
            read[name] = []
        elif not isinstance(kind, dict):
            read[name] = {"u": 0, "s": "", "b": b"", "u?": None}[kind]
    for tag, wire, value in fields(data):
        if tag not in shape:
            continue
        name, kind, *many = shape[tag]
        if isinstance(kind, dict):
            value = message(value, kind)
        elif kind[0] == "s":
            value = value.decode()
        elif kind == "u*" and wire == 2:
            at = 0
            while at < len(value):
                one, at = number(value, at)
                read[name].append(one)
            continue
        if many or kind in ("u*", "s*"):
            read[name].append(value)
        else:
            read[name] = value
    return read


def batch(data):
    """The entries of a row, each with its name, and up to where an agent's facts are taken in with it."""
    entries, taken = [], None
    for tag, _, value in fields(data):
        if tag == 2:
            for body, _, inner in fields(value):
                name, shape = ENTRIES.get(body, (f"entry {body}", {}))
                entries.append((name, message(inner, shape)))
        elif tag == 3:
            taken = message(value, TAKEN)
    return entries, taken


def text_reference(data):
    """Digest, offset and length of what is stored of an attempt's texts."""
    if len(data) != 44:
        raise Damaged(f"a reference of {len(data)} bytes")
    return data[:32], *struct.unpack("<QI", data[32:])
