import asyncio

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_session_loop_stays(session_loop):
    """The same loop in all files that a process runs."""
    assert asyncio.get_running_loop() is session_loop


async def test_a_task_of_it_goes_on(session_task):
    assert not session_task.done()
