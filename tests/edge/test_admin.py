"""The admin API, without sockets: the real routes over a registry in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import httpx
import pytest

from gateway.edge import admin, routes
from gateway.pipeline.enrolment import Enrolment
from gateway.pipeline.live import Live
from gateway.policy.keys import digest
from gateway.policy.load import load_text
from gateway.store.registry import MemoryRegistry
from gateway.testing import MemoryUpstream, Script
from gateway.upstream import presets
from gateway.wire.dialect import Dialect

NOW = 1.8e9
ADMIN = "sk-admin-of-all"
DOCUMENT = """
models: {r2: {aliases: [deepseek-r2]}, flash: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x, flash: y}}}
policies: {p: {tiers: [{backends: [one]}]}}
tenants:
  doc: {keys: [{key: "${DOC}", name: laptop, expires: 2099-01-01}], models: [flash]}
"""


class House:
    """The routes of one gateway. `say` asks the admin API; `models` lists what a key may use."""

    def __init__(self, *, admin_key: str = ADMIN, registry: MemoryRegistry | None = None) -> None:
        self.live = Live(lambda connection, timeout: (MemoryUpstream(Script()), Dialect("plain")), closed=True)
        self.live.install(load_text(DOCUMENT, {"DOC": "sk-document"}, presets.infos()))
        self.registry = registry if registry is not None else MemoryRegistry()
        self.enrolment: Enrolment | None = Enrolment(self.live, self.registry, lambda: NOW)
        inside = routes.Inside(
            self.live, lambda: 0.0, lambda: (True, {}), lambda: b"", dict, lambda: "req-1", admin_key,
            lambda: self.enrolment, lambda: NOW,
        )  # fmt: skip
        self._admin = httpx.ASGITransport(admin.build(inside))
        self._routes = httpx.ASGITransport(routes.build(inside))

    async def say(
        self, method: str, path: str, body: object = None, *, key: str = ADMIN, raw: bytes | None = None
    ) -> httpx.Response:
        async with httpx.AsyncClient(transport=self._admin, base_url="http://admin/admin/v1/") as client:
            content = raw if raw is not None else json.dumps(body).encode() if body is not None else None
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return await client.request(method, path, content=content, headers=headers)

    async def done(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.say(method, path, body)
        assert answer.is_success, answer.text
        return answer.json()

    async def models(self, key: str) -> list[str]:
        async with httpx.AsyncClient(transport=self._routes, base_url="http://door") as client:
            answer = await client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
            return [model["id"] for model in answer.json()["data"]] if answer.is_success else [answer.text]


def go(scenario: Callable[[House], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def whole() -> None:
        await scenario(House(**options))

    asyncio.run(whole())


def error(answer: httpx.Response) -> Mapping[str, Any]:
    found: Mapping[str, Any] = answer.json()["error"]
    return found


def test_a_tenant_and_a_key_are_made_used_and_revoked() -> None:
    async def scenario(house: House) -> None:
        made = await house.done("POST", "tenants", {"name": "acme", "class": "batch", "models": ["deepseek-r2"]})
        assert (made["name"], made["source"], made["class"], made["models"]) == ("acme", "runtime", "batch", ["r2"])
        key = await house.done("POST", "keys", {"tenant": "acme", "name": "one", "expires": "2099-01-01"})
        assert (key["status"], key["expires"]) == ("active", "2099-01-01T00:00:00Z")
        assert await house.models(key["key"]) == ["r2", "deepseek-r2"]
        assert (await house.done("GET", "tenants/acme"))["keys"] == 1
        assert (await house.done("DELETE", f"keys/{key['id']}"))["status"] == "revoked"
        assert "revoked_api_key" in (await house.models(key["key"]))[0]
        assert (await house.done("DELETE", "tenants/acme"))["deleted"]
        assert (await house.say("GET", "tenants/acme")).status_code == 404

    go(scenario)


def test_a_key_is_shown_once_and_kept_nowhere() -> None:
    async def scenario(house: House) -> None:
        made = await house.say("POST", "keys", {"tenant": "doc"})
        key = made.json()["key"]
        assert made.headers["cache-control"] == "no-store"
        later = [await house.say("GET", path) for path in ("keys", "tenants", f"keys/{made.json()['id']}")]
        kept = b"".join((await house.registry.read()).fields.values())
        assert key not in "".join(answer.text for answer in later) + kept.decode()
        assert digest(key).hex() not in "".join(answer.text for answer in later)

    go(scenario)


def test_the_document_is_shown_and_not_changed() -> None:
    async def scenario(house: House) -> None:
        (tenant,) = (await house.done("GET", "tenants"))["data"]
        assert (tenant["name"], tenant["source"], tenant["keys"], tenant["terms"]) == ("doc", "document", 1, None)
        (key,) = (await house.done("GET", "keys"))["data"]
        assert (key["name"], key["source"], key["created"]) == ("laptop", "document", None)
        for method, path in (
            ("PUT", "tenants/doc"),
            ("PATCH", "tenants/doc"),
            ("DELETE", "tenants/doc"),
            ("PATCH", f"keys/{key['id']}"),
            ("DELETE", f"keys/{key['id']}"),
        ):
            answer = await house.say(method, path, {})
            assert (answer.status_code, error(answer)["code"].endswith("_in_document")) == (409, True), (method, path)
        answer = await house.say("POST", "tenants", {"name": "doc"})
        assert (answer.status_code, error(answer)["code"]) == (409, "tenant_in_document")

    go(scenario)


def test_terms_are_replaced_or_changed_in_part() -> None:
    async def scenario(house: House) -> None:
        put = await house.done("PUT", "tenants/team/one", {"weight": 2, "limits": {"rpm": 5, "tpm": "2M"}})
        assert (put["name"], put["limits"]) == ("team/one", {"rpm": 5, "tpm": 2_000_000})
        patched = await house.done("PATCH", "tenants/team/one", {"weight": None, "status": "disabled"})
        assert (patched["weight"], patched["status"], patched["limits"]["rpm"]) == (1.0, "disabled", 5)
        assert patched["terms"] == {"limits": {"rpm": 5, "tpm": "2M"}, "status": "disabled"}
        replaced = await house.done("PUT", "tenants/team/one", {})
        assert (replaced["limits"], replaced["status"]) == ({}, "active")

    go(scenario)


def test_a_key_is_turned_over_without_a_gap() -> None:
    async def scenario(house: House) -> None:
        old = await house.done("POST", "keys", {"tenant": "doc"})
        new = await house.done("POST", "keys", {"tenant": "doc", "replaces": old["id"], "overlap": "1h"})
        assert await house.models(old["key"]) == await house.models(new["key"]) == ["flash"]
        assert (await house.done("GET", f"keys/{old['id']}"))["expires"] == "2027-01-15T09:00:00Z"
        renamed = await house.done("PATCH", f"keys/{new['id']}", {"name": "new", "expires": "2027-01-15"})
        assert (renamed["name"], renamed["status"]) == ("new", "expired")
        assert (await house.done("DELETE", "keys/new"))["id"] == new["id"]

    go(scenario)


def test_keys_are_listed_by_tenant() -> None:
    async def scenario(house: House) -> None:
        await house.done("POST", "tenants", {"name": "acme"})
        for tenant in ("acme", "doc"):
            await house.done("POST", "keys", {"tenant": tenant})
        found = (await house.done("GET", "keys?tenant=doc"))["data"]
        assert [(key["tenant"], key["source"]) for key in found] == [("doc", "document"), ("doc", "runtime")]
        assert len((await house.done("GET", "keys"))["data"]) == 3
        assert (await house.say("GET", "keys?tenant=nobody")).status_code == 404

    go(scenario)


@pytest.mark.parametrize("key", ["", "sk-wrong", ADMIN + "x", ADMIN[:-1], "sk-document"])
@pytest.mark.parametrize(("method", "path"), [("GET", "tenants"), ("POST", "keys"), ("DELETE", "tenants/doc")])
def test_nobody_else_gets_in(key: str, method: str, path: str) -> None:
    async def scenario(house: House) -> None:
        answer = await house.say(method, path, {"tenant": "doc"}, key=key)
        assert (answer.status_code, error(answer)["code"]) == (401, "invalid_api_key")
        assert (await house.registry.read()).fields == {}

    go(scenario)


@pytest.mark.parametrize("key", ["", ADMIN])
def test_without_an_admin_key_there_is_nothing(key: str) -> None:
    async def scenario(house: House) -> None:
        answer = await house.say("GET", "tenants", key=key)
        assert (answer.status_code, error(answer)["code"]) == (404, "unknown_url")

    go(scenario, admin_key="")


def test_without_a_registry_it_says_what_is_needed() -> None:
    async def scenario(house: House) -> None:
        house.enrolment = None
        assert len((await house.done("GET", "tenants"))["data"]) == 1
        answer = await house.say("POST", "keys", {"tenant": "doc"})
        assert (answer.status_code, error(answer)["code"]) == (501, "needs_redis")
        assert "REDIS_URL" in error(answer)["message"]

    go(scenario)


@pytest.mark.parametrize(
    ("method", "path", "raw", "status", "code"),
    [
        ("POST", "tenants", b"not JSON", 400, "invalid_json"),
        ("POST", "tenants", b"[]", 400, "invalid_json"),
        ("POST", "tenants", b"\xff", 400, "invalid_json"),
        ("POST", "tenants", b"[" * 10_000, 400, "invalid_json"),
        ("POST", "tenants", b'{"name": "' + b"x" * 20_000 + b'"}', 413, "body_too_large"),
        ("POST", "tenants", b"", 400, "invalid_type"),
        ("POST", "tenants", b'{"name": 7}', 400, "invalid_type"),
        ("POST", "tenants", b'{"name": "a b"}', 400, "invalid_value"),
        ("PUT", "tenants/acme", b'{"limits": {"rpm": "many"}}', 400, "invalid_value"),
        ("POST", "keys", b'{"tenant": "nobody"}', 404, "tenant_not_found"),
        ("POST", "keys", b'{"tenant": "doc", "overlap": "a day"}', 400, "invalid_value"),
        ("POST", "keys", b'{"tenant": "doc", "overlap": "999d"}', 400, "invalid_value"),
        ("POST", "keys", b'{"tenant": "doc", "expires": "soon"}', 400, "invalid_value"),
        ("GET", "keys/nothing", b"", 404, "key_not_found"),
        ("GET", "nothing", b"", 404, "unknown_url"),
        ("POST", "tenants/acme", b"{}", 405, "method_not_allowed"),
    ],
)
def test_what_is_wrong_is_told_in_the_envelope(method: str, path: str, raw: bytes, status: int, code: str) -> None:
    async def scenario(house: House) -> None:
        answer = await house.say(method, path, raw=raw)
        assert (answer.status_code, error(answer)["code"]) == (status, code), answer.text

    go(scenario)


def test_a_wrong_field_is_named() -> None:
    async def scenario(house: House) -> None:
        answer = await house.say("PUT", "tenants/acme", {"limits": {"rpm": 0}, "clas": "batch"})
        assert [problem["param"] for problem in error(answer)["problems"]] == ["", "limits.rpm"]
        assert "did you mean 'class'?" in error(answer)["message"]

    go(scenario)


def test_the_log_tells_what_was_done_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    keys = []

    async def scenario(house: House) -> None:
        await house.done("POST", "tenants", {"name": "acme"})
        keys.append(await house.done("POST", "keys", {"tenant": "acme"}))
        await house.done("DELETE", f"keys/{keys[0]['id']}")

    go(scenario)
    assert [record.message for record in caplog.records] == [
        "tenant 'acme' was made",
        f"key {keys[0]['id']} was made for tenant 'acme'",
        f"key {keys[0]['id']} was revoked",
    ]
