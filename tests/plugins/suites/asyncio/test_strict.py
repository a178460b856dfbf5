import asyncio

import pytest
import pytest_asyncio


@pytest_asyncio.fixture
async def number():
    await asyncio.sleep(0)
    yield 1
    await asyncio.sleep(0)


@pytest_asyncio.fixture
async def broken_teardown():
    yield
    raise RuntimeError("no tear-down")


@pytest.mark.asyncio
async def test_fixture(number):
    assert number == 1


@pytest.mark.asyncio
async def test_fails(number):
    await asyncio.sleep(0)
    assert number == 2


@pytest.mark.asyncio
async def test_error_behind(broken_teardown):
    pass


@pytest.mark.asyncio
@pytest.mark.xfail
async def test_expected():
    raise ValueError


async def test_without_mark():
    assert False, "in strict mode this is never awaited"
