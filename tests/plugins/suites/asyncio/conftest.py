import asyncio

import pytest_asyncio


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def session_loop():
    yield asyncio.get_running_loop()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def session_task():
    task = asyncio.create_task(asyncio.sleep(3600))
    yield task
    task.cancel()
