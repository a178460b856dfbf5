from flaky import flaky

tries = []


@flaky(max_runs=3, min_passes=2)
def test_passes_twice_of_three():
    tries.append(1)
    assert len(tries) > 1


@flaky
def test_never():
    assert False


def test_plain():
    pass
