import pytest


@pytest.mark.parametrize("fruit", ["apple", "pear"])
def test_price(snapshot, fruit):
    snapshot.assert_match(f"price of {fruit}\n", "price.txt")
