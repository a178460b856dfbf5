calls = []


def test_speed(benchmark):
    benchmark.pedantic(lambda: calls.append(1), rounds=5)


def test_rounds():
    print("rounds:", len(calls))


def test_plain():
    pass
