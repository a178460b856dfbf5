import pytest

tries = {}


def count(name):
    tries[name] = tries.get(name, 0) + 1
    return tries[name]


def test_second_try():
    assert count("second") == 2


@pytest.mark.flaky(reruns=3)
def test_third_try():
    print("try", count("third"))
    assert tries["third"] == 3


def test_never():
    assert count("never") == 0, f"try {tries['never']}"


@pytest.fixture
def shaky():
    if count("shaky") < 2:
        raise RuntimeError("no set-up at first")


def test_set_up_at_the_second_try(shaky):
    pass


@pytest.mark.flaky(reruns=0)
def test_without_reruns():
    assert count("without") == 2


@pytest.mark.flaky(reruns=2, only_rerun="ValueError")
def test_only_some_errors():
    count("some")
    raise KeyError


@pytest.mark.flaky(reruns=2, condition=False)
def test_condition():
    assert count("condition") == 2


@pytest.mark.xfail
def test_expected():
    assert False


def test_passes():
    pass
