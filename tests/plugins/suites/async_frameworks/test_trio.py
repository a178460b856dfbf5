import pytest
import trio


@pytest.fixture
async def channel():
    send, receive = trio.open_memory_channel(1)
    async with send, receive:
        yield send, receive


@pytest.mark.trio
async def test_channel(channel):
    send, receive = channel
    await send.send(1)
    assert await receive.receive() == 1


@pytest.mark.trio
async def test_nursery_fails():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)
        raise ValueError


@pytest.mark.trio
async def test_clock(autojump_clock):
    before = trio.current_time()
    await trio.sleep(60)
    assert trio.current_time() - before == 60
