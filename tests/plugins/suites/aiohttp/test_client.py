from aiohttp import web


async def answer(request):
    return web.Response(text="yes")


async def test_client(aiohttp_client):
    app = web.Application()
    app.router.add_get("/", answer)
    client = await aiohttp_client(app)
    assert await (await client.get("/")).text() == "yes"
