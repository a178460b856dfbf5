import anyio
import pytest


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def resource(anyio_backend):
    await anyio.sleep(0)
    yield [1]
    await anyio.sleep(0)


@pytest.mark.anyio
async def test_first(resource):
    resource.append(2)


@pytest.mark.anyio
async def test_second(resource):
    assert resource == [1, 2]
