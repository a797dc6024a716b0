from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.clouds.fleet import FleetError, parse
from gateway.clouds.server import Running, serve

Live = Callable[..., None]
CHAT = {"model": "deepseek-r2", "messages": [{"role": "user", "content": "hello"}], "stream": True}


async def control(running: Running, path: str, body: Any = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.control}", trust_env=False) as client:
        return await (client.get(path) if body is None else client.post(path, json=body))


def test_a_crash_resets_connections_and_refuses_new_ones_until_it_is_over(live: Live) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        task = asyncio.create_task(client.post("/chat/completions", json=CHAT))
        async with asyncio.timeout(2):
            while not running.stats()["cloud"]["in_flight"]:
                await asyncio.sleep(0.002)
        assert (await control(running, "/clouds/cloud", {"fail": "crash"})).json() == {"ok": True}
        with pytest.raises(httpx.TransportError):
            await task
        with pytest.raises(httpx.ConnectError):
            await client.get("/models")
        port = running.ports["cloud"]
        await control(running, "/clouds/cloud", {"fail": None})
        assert running.ports["cloud"] == port
        assert (await client.get("/models")).status_code == 200
        assert running.stats()["cloud"]["cut"] == 1

    live(scenario, laws={"net": 5})


def test_limits_change_while_it_runs(live: Live) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        await control(running, "/clouds/cloud", {"limits": {"rpm": 1}, "slots": 2})
        answers = [await client.post("/chat/completions", json=CHAT) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        stats = (await control(running, "/stats")).json()["cloud"]
        assert stats["limits"] == {"rpm": 1, "slots": 2}
        assert stats["overruns"] == {"rpm": 1}

    live(scenario, laws={"t0": "1ms"})


def test_a_wrong_change_changes_nothing_and_says_why(live: Live) -> None:
    async def scenario(running: Running, _: httpx.AsyncClient) -> None:
        answer = await control(running, "/clouds/cloud", {"slots": 4, "fail": "crahs"})
        assert answer.status_code == 400
        assert "crash?" in answer.text
        assert running.stats()["cloud"]["limits"] == {}
        assert (await control(running, "/clouds/other", {})).status_code == 404
        assert (await control(running, "/clouds/cloud", ["fail"])).status_code == 400
        assert (await control(running, "/nothing")).status_code == 404

    live(scenario)


def test_a_script_changes_clouds_at_its_times(live: Live) -> None:
    async def scenario(running: Running, _: httpx.AsyncClient) -> None:
        steps = [
            {"at": 0.1, "cloud": "cloud", "set": {"fail": None}},
            {"at": 0, "cloud": "cloud", "set": {"fail": "overload"}},
        ]
        assert (await control(running, "/script", steps)).status_code == 200
        seen = set()
        async with asyncio.timeout(2):
            while seen != {"overload", "recovered"}:
                await asyncio.sleep(0.005)
                fail = running.stats()["cloud"]["fail"]
                seen |= {fail} if fail else {"recovered"} if "overload" in seen else set()

    live(scenario)


def test_a_script_with_a_wrong_step_does_nothing(live: Live) -> None:
    async def scenario(running: Running, _: httpx.AsyncClient) -> None:
        good = {"at": 0, "cloud": "cloud", "set": {"fail": "overload"}}
        for bad in ({"at": 0, "cloud": "none", "set": {}}, {**good, "at": -1}, {**good, "set": {"fial": 1}}, 7):
            with pytest.raises(FleetError):
                running.script([good, bad])
        await asyncio.sleep(0.02)
        assert running.stats()["cloud"]["fail"] == ""

    live(scenario)


def test_a_reset_is_a_new_day(live: Live) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        first = await client.post("/chat/completions", json=CHAT)
        running.script([{"at": 0.05, "cloud": "cloud", "set": {"fail": "overload"}}])
        await running.set("cloud", fail="crash")
        assert (await control(running, "/reset", {})).status_code == 200
        await asyncio.sleep(0.1)
        assert running.stats()["cloud"]["requests"] == 0
        again = await client.post("/chat/completions", json=CHAT)
        assert again.text.count("data:") == first.text.count("data:")

    live(scenario, laws={"t0": "1ms"}, answer={"sigma": 0.5})


def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    async def scene() -> None:
        async with await serve(parse({"clouds": {"a": None}})) as running:
            taken = parse({"clouds": {"b": {}, "a": {"port": running.ports["a"]}}})
            with pytest.raises(OSError, match="in use"):
                await serve(taken)

    asyncio.run(scene())


def test_a_fleet_may_begin_with_a_cloud_that_is_down() -> None:
    async def scene() -> None:
        async with await serve(parse({"clouds": {"a": {"fail": "crash"}}})) as running:
            with pytest.raises(OSError, match=r"refused|failed"):
                await asyncio.open_connection("127.0.0.1", running.ports["a"])
            await running.set("a", fail=None)
            _, writer = await asyncio.open_connection("127.0.0.1", running.ports["a"])
            writer.close()

    asyncio.run(scene())
