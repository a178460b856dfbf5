"""How long the set-up takes that tests of a unit share: what every further part of the unit would pay again.

Listens only; fixtures are pytest's. PYTEST_DONT_REWRITE
"""

import pytest

from .wire import now

SHARED = frozenset(("class", "module", "package"))


class SharedSetup:
    def __init__(self):
        self.took_us = 0  # since the lease began
        self.inner_us = 0  # of the set-up at work: what was others', which it asked for meanwhile

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef):
        outer, self.inner_us = self.inner_us, 0
        began = now()
        yield
        took = now() - began
        if fixturedef.scope in SHARED:
            self.took_us += took - self.inner_us
        self.inner_us = outer + took
