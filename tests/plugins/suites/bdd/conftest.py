from pytest_bdd import given, parsers, then, when


@given("an empty basket", target_fixture="basket")
def empty_basket():
    return []


@when(parsers.parse("I put {count:d} {fruit} into it"))
def put(basket, count, fruit):
    basket.extend([fruit] * count)


@then(parsers.parse("it holds {count:d} fruit"))
def holds(basket, count):
    assert len(basket) == count
