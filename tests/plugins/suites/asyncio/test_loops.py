import asyncio

import pytest
import pytest_asyncio

loops = {}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def module_loop():
    yield asyncio.get_running_loop()


class TestModule:
    pytestmark = pytest.mark.asyncio(loop_scope="module")

    async def test_first(self, module_loop):
        loops["module"] = asyncio.get_running_loop()
        assert module_loop is loops["module"]

    async def test_same(self, module_loop):
        assert asyncio.get_running_loop() is loops["module"] is module_loop


@pytest.mark.asyncio(loop_scope="function")
async def test_own_loop():
    assert asyncio.get_running_loop() is not loops["module"]


@pytest.mark.asyncio(loop_scope="class")
class TestClass:
    async def test_first(self):
        loops["class"] = asyncio.get_running_loop()

    async def test_same(self):
        assert asyncio.get_running_loop() is loops["class"]
