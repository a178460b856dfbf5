from pytest_bdd import scenarios

scenarios("basket.feature")
