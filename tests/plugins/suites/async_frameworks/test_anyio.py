import anyio
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
async def number():
    await anyio.sleep(0)
    yield 1


async def test_on_each_backend(number, anyio_backend_name):
    await anyio.sleep(0)
    assert number == 1 and anyio_backend_name in ("asyncio", "trio")


async def test_fails(number):
    assert number == 2
