"""The second test fails only because the first one ran before it in the same process."""

BASKET = []


def test_fills_the_basket():
    BASKET.append("apple")
    assert BASKET


def test_a_basket_is_empty_at_first():
    assert BASKET == []
