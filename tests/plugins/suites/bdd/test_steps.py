from pytest_bdd import scenario


@scenario("step_missing.feature", "Nobody wrote this step")
def test_missing_step():
    pass


def test_without_scenario():
    pass
