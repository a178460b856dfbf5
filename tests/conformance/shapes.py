"""The fields of each event and their types, as docs/runner-protocol.md gives them.

A shape is a function from a value to None, or to what is wrong with it. What order events come in is ledger.py's.
"""


def text(value):
    return None if isinstance(value, str) else "is not a string"


def truth(value):
    return None if isinstance(value, bool) else "is not true or false"


def number(value):
    return None if isinstance(value, (int, float)) and not isinstance(value, bool) else "is not a number"


def whole(value):
    if isinstance(value, bool) or not isinstance(value, int):
        return "is not a whole number"
    return None if value >= 0 else "is below 0"


def line_number(value):
    return whole(value) or (None if value >= 1 else "is below 1")


def list_of(shape):
    def check(value):
        if not isinstance(value, list):
            return "is not a list"
        for index, item in enumerate(value):
            wrong = shape(item)
            if wrong:
                return f"[{index}] {wrong}"
        return None
    return check


def map_of(shape):
    def check(value):
        if not isinstance(value, dict):
            return "is not an object"
        for key, item in value.items():
            wrong = shape(item)
            if wrong:
                return f"{key!r} {wrong}"
        return None
    return check


def record(**fields):
    """An object; a field whose name ends in `_opt` here may be absent there."""
    wanted = [(name[:-4] if name.endswith("_opt") else name, name.endswith("_opt"), shape) for name, shape in fields.items()]

    def check(value):
        if not isinstance(value, dict):
            return "is not an object"
        for name, optional, shape in wanted:
            if name not in value:
                if optional:
                    continue
                return f"has no field {name!r}"
            wrong = shape(value[name])
            if wrong:
                return f"field {name!r} {wrong}"
        return None
    return check


CASE_OBJECT = record(id=text, name_opt=text, class_opt=text, file_opt=text, line_opt=line_number, n_opt=whole, group_opt=text)


def case(value):
    return None if isinstance(value, str) else CASE_OBJECT(value)


EVENTS = {
    "hello": record(protocol=whole, runner=text, framework=text, language=text, pid=whole, can=list_of(text),
                    notes=list_of(text), closing_opt=truth, finish_opt=truth,
                    run_wide=record(max_fail_opt=number, junit_opt=text, durations_opt=whole, durations_min_opt=number, show_output_opt=truth)),
    "refused": record(reason=text, message=text, hint_opt=text),
    "listed": record(units=list_of(record(unit=text, path_opt=text, size_opt=whole)), more=truth),
    "begin": record(lease=whole, at=whole),
    "declare": record(lease=whole, cases=list_of(case), more=truth, instead_opt=list_of(record(id=text, n_opt=whole))),
    "start": record(lease=whole, case=whole, at=whole),
    "end": record(lease=whole, case=whole, at=whole, outcome=text, duration_us=whole, message_opt=text, detail_opt=text,
                  output_opt=list_of(record(name=text, text=text)), phases_us_opt=map_of(whole)),
    "close": record(lease=whole, at=whole, setup_us=whole),
    "returned": record(lease=whole, cases=list_of(whole), all=truth),
    "waiting": record(lease=whole, case=whole, at=whole),
    "halt": record(reason=text),
    "log": record(level=text, text=text),
    "warnings": record(list=list_of(record(text=text, cases=list_of(text), count_opt=whole))),
    "bye": record(failed_opt=list_of(record(message=text, detail_opt=text)), summary_opt=list_of(record(title=text, text=text)), carry_opt=text),
}
