"""Tools that reach the web, against servers that try to lead them elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from services.execution.gateways.http_fetch import HttpFetch, Limits
from services.execution.gateways.web_search import Provider, WebSearch
from services.execution.service.builtin.addresses import Hosts
from services.execution.service.tools import ToolError
from tests.rpc.test_execution_tools import call

LIMITS = Limits(seconds=10.0, most_bytes=10_000)
Handler = Callable[[web.Request], Any]


class Names(AbstractResolver):
    """Gives the addresses of a name one after the other."""

    def __init__(self, **names: list[str]) -> None:
        self._names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        self.asked += 1
        addresses = self._names[host]
        address = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """host:port of a server that answers everything alike."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def fetched(handler: Handler, path: str = "/", limits: Limits = LIMITS, **arguments: Any) -> dict[str, Any]:
    async with serving(handler) as at, HttpFetch(Hosts(private=[at]), limits) as fetch:
        return dict(orjson.loads(await fetch.fetch(f"http://{at}{path}", **arguments)))


async def refused(fetching: Any) -> str:
    with pytest.raises(ToolError) as caught:
        await fetching
    return str(caught.value)


async def test_page() -> None:
    async def page(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.json_response({"path": request.path_qs, "method": request.method})

    found = await fetched(page, "/a?b=c")
    assert (found["status"], found["content_type"], found["truncated"]) == (200, "application/json", False)
    assert orjson.loads(found["body"]) == {"path": "/a?b=c", "method": "GET"}
    assert (await fetched(page, method="HEAD"))["body"] == ""


async def test_page_that_is_too_long_even_if_it_is_packed() -> None:
    async def bomb(_: web.Request) -> web.Response:
        packed = gzip.compress(b"x" * 5_000_000)
        return web.Response(body=packed, content_type="text/plain", headers={"Content-Encoding": "gzip"})

    found = await fetched(bomb)
    assert (len(found["body"]), found["truncated"]) == (10_000, True)


async def test_endless_page() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 4096)

    assert (await fetched(endless))["truncated"]


async def test_page_that_never_comes() -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    assert "no answer within" in await refused(fetched(slow, limits=Limits(0.2, 1000)))


@pytest.mark.parametrize("status", [404, 503])
async def test_page_that_is_not_there(status: int) -> None:
    async def missing(_: web.Request) -> web.Response:
        return web.Response(status=status)

    with pytest.raises(ToolError) as caught:
        await fetched(missing)
    assert caught.value.passing == (status == 503)


async def test_binary_page() -> None:
    async def image(_: web.Request) -> web.Response:
        return web.Response(body=bytes(range(256)), content_type="image/png")

    assert "image/png" in await refused(fetched(image))


async def test_text_in_other_characters() -> None:
    async def latin(_: web.Request) -> web.Response:
        return web.Response(body="caf\u00e9".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"})

    async def odd(_: web.Request) -> web.Response:
        return web.Response(body=b"ab\xff", headers={"Content-Type": "text/plain; charset=klingon"})

    assert (await fetched(latin))["body"] == "caf\u00e9"
    assert (await fetched(odd))["body"] == "ab\ufffd"


async def test_redirects() -> None:
    async def twice(request: web.Request) -> web.Response:
        if request.path != "/c":
            return web.Response(status=302, headers={"Location": {"/": "b", "/b": "/c"}[request.path]})
        return web.Response(text="there")

    found = await fetched(twice)
    assert (found["body"], found["url"].rpartition("/")[2]) == ("there", "c")


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://2130706433/",
        "http://127.0.0.1:1/",
        "file:///etc/passwd",
        "//evil.test/",
        "/",
    ],
)
async def test_redirects_elsewhere(target: str) -> None:
    """The last one goes round and round."""

    async def away(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target})

    await refused(fetched(away))


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://localhost/",
        "http://inside.test/",
    ],
)
async def test_everything_public_is_nothing_private(target: str) -> None:
    """With *, whatever a name or a number stands for."""
    names = None if "inside" not in target else Names(inside_test=["10.0.0.1"])
    async with HttpFetch(Hosts(public=["*"]), LIMITS, names) as fetch:
        said = await refused(fetch.fetch(target))
    assert "no connection" in said or "InvalidUrl" in said


async def test_name_that_changes_its_address() -> None:
    """The address counts that is connected to, each time."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="inside")

    async with serving(page) as at:
        port = at.rpartition(":")[2]
        names = Names(rebind_test=["127.0.0.1"])
        async with HttpFetch(Hosts(public=[f"rebind.test:{port}"]), LIMITS, names) as fetch:
            assert "may not be reached" in await refused(fetch.fetch(f"http://rebind.test:{port}/"))
        assert names.asked == 1
        async with HttpFetch(Hosts(private=[f"rebind.test:{port}"]), LIMITS, names) as fetch:
            assert "inside" in await fetch.fetch(f"http://rebind.test:{port}/")


async def test_named_private_hosts_never_are_link_local() -> None:
    hosts = Hosts(private=["meta.test"])
    async with HttpFetch(hosts, LIMITS, Names(meta_test=["169.254.169.254"])) as fetch:
        assert "may not be reached" in await refused(fetch.fetch("http://meta.test/"))


async def test_through_the_service(bench: Callable[..., Any]) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async with serving(page) as host:
        at = await bench(http_fetch_private_hosts=(host,))
        good = await call(at, "builtin/http_fetch", url=f"http://{host}/")
        assert orjson.loads(good.output)["body"] == "hello"
        bad = await call(at, "builtin/http_fetch", url="http://example.com/")
        assert bad.is_error
        assert "none of those that may be reached" in bad.output


class Values:
    async def resolved(self, values: Mapping[str, str], *, refresh: bool = False) -> dict[str, str]:
        return {name: f"value of {value}" for name, value in values.items()}


async def test_searxng() -> None:
    async def engine(request: web.Request) -> web.Response:
        assert (request.query["q"], request.query["format"]) == ("a b&c", "json")
        results = [{"title": f"t{n}", "url": f"http://{n}", "content": "words", "score": 1} for n in range(9)]
        return web.json_response({"results": [*results[:2], "odd", *results[2:]]})

    async with serving(engine) as at, WebSearch(Provider(url=f"http://{at}/search"), Values(), seconds=10) as search:
        found = orjson.loads(await search.search("a b&c", 2))
    assert found == {
        "results": [
            {"title": "t0", "url": "http://0", "snippet": "words"},
            {"title": "t1", "url": "http://1", "snippet": "words"},
        ]
    }


async def test_brave() -> None:
    async def engine(request: web.Request) -> web.Response:
        assert request.headers["X-Subscription-Token"] == "value of secret:brave:key"
        assert request.query["count"] == "5"
        return web.json_response({"web": {"results": [{"title": "t", "url": "u", "description": None}]}})

    async with serving(engine) as at:
        provider = Provider("brave", f"http://{at}/", "secret:brave:key")
        async with WebSearch(provider, Values(), seconds=10) as search:
            found = orjson.loads(await search.search("a"))
    assert found == {"results": [{"title": "t", "url": "u", "snippet": ""}]}


@pytest.mark.parametrize("status", [200, 401, 429, 500])
async def test_search_engine_that_fails(status: int) -> None:
    async def engine(_: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>")

    async with serving(engine) as at, WebSearch(Provider(url=f"http://{at}/"), Values(), seconds=10) as search:
        with pytest.raises(ToolError) as caught:
            await search.search("a")
    assert caught.value.passing == (status in (429, 500))
    async with WebSearch(Provider(url=f"http://{at}/"), Values(), seconds=10) as search:
        assert "was not reached" in await refused(search.search("a"))
