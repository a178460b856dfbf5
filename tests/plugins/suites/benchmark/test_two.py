calls = []


def test_speed(benchmark):
    benchmark.pedantic(lambda: calls.append(1), rounds=5)
    print("rounds:", len(calls))


def test_plain():
    pass
