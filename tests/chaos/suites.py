"""What runs in a round: suites, with the outcome that each of their tests has."""

PYTEST = '''\
import sys
import time

import pytest

BEHAVES = {behaves}


@pytest.mark.parametrize("name", sorted(BEHAVES))
def test_one(name):
    seconds, outcome = BEHAVES[name]
    print("this is", name)
    time.sleep(seconds)
    if outcome == "skipped":
        pytest.skip("as it is planned")
    if outcome == "failed":
        print("and it fails", file=sys.stderr)
    assert outcome == "passed"
'''


def noop(world, rng, scale=1.0):
    """The runner that does nothing; the words behind `run`, and the plan."""
    units, cases = rng.randint(30, 60), rng.randint(4, 16)
    fails = rng.choice((0, 0, 5, 9))
    # Slots have ten to thirty seconds of work together.
    sleep = int(rng.uniform(10, 30) * scale * 1e6 / (units * cases))
    words = ["--runner", "protocol", "--", world.options.binary, "noop-runner", "--units", str(units), "--cases", str(cases),
             "--sleep-us", str(sleep), "--fail-every", str(fails)]
    plan = {f"unit-{unit}::case-{case}": "failed" if fails and (case + 1) % fails == 0 else "passed"
            for unit in range(units) for case in range(cases)}
    return words, plan, f"noop {units}x{cases}"


def pytest(world, rng, name, scale=1.0):
    root = world.directory / f"{name}-suite"
    (root / "t").mkdir(parents=True)
    plan, fails = {}, rng.random() < 0.5
    for file in range(rng.randint(6, 12)):
        behaves = {}
        for test in range(rng.randint(4, 14)):
            outcome = "failed" if fails and rng.random() < 0.1 else "skipped" if rng.random() < 0.05 else "passed"
            seconds = rng.uniform(0.5, 1.5) if rng.random() < 0.05 else rng.uniform(0, 0.4)
            behaves[f"n{test}"] = (round(seconds * scale, 3), outcome)
            plan[f"t/test_{file}.py::test_one[n{test}]"] = outcome
        (root / f"t/test_{file}.py").write_text(PYTEST.format(behaves=behaves))
    words = ["--root", str(root), "--", world.options.python, "-m", "pytest", "-p", "no:cacheprovider", "t"]
    return words, plan, f"pytest {len(plan)}"
