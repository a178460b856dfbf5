from hypothesis import example, given, settings, strategies

runs = []


@given(strategies.integers())
def test_number(number):
    runs.append(number)
    assert number + 1 > number


def test_profile():
    assert len(runs) == settings().max_examples


@given(strategies.lists(strategies.integers()))
def test_finds_a_failure(numbers):
    assert len(numbers) < 3


@example(numbers=[])
@given(strategies.lists(strategies.integers(), min_size=1))
def test_example_fails(numbers):
    assert numbers
