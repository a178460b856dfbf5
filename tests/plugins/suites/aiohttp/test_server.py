import aiohttp
from aiohttp import web


async def test_server(aiohttp_server):
    server = await aiohttp_server(web.Application())
    async with aiohttp.ClientSession() as session, session.get(server.make_url("/")) as answer:
        assert answer.status == 404


async def test_fails(aiohttp_raw_server):
    server = await aiohttp_raw_server(lambda request: None)
    async with aiohttp.ClientSession() as session, session.get(server.make_url("/")) as answer:
        assert answer.status == 200
