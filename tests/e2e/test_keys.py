"""Tenants and keys at run time, as an operator meets them: real gateways, a real Redis, the command."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.testing.processes import Gateway, Redis

HERE = Path(__file__).parent
ADMIN = "sk-admin-of-all"
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
Start = Callable[..., Gateway]


@pytest.fixture
def redis() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Redis]:
    """A Redis that keeps what it is told."""
    found = Redis(tmp_path)
    yield found
    found.kill()


def env(redis: Redis, **more: str) -> dict[str, str]:
    return {"REDIS_URL": redis.url, "SPILLGATE_ADMIN_KEY": ADMIN, "SPILLGATE_REPLICAS": "2", **more}


def admin(url: str, method: str, path: str, body: object = None, key: str = ADMIN) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.request(method, f"{url}/admin/v1/{path}", json=body, headers=headers, timeout=10)


def models(gateway: Gateway, key: str) -> httpx.Response:
    return httpx.get(f"{gateway.base}/models", headers={"authorization": f"Bearer {key}"})


def chat(gateway: Gateway, key: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.base}/chat/completions", json=BODY, headers=headers, timeout=20)


def code(answer: httpx.Response) -> str:
    return "" if answer.status_code == 200 else str(answer.json()["error"]["code"])


def soon(gateway: Gateway, key: str, wanted: str, within: float = 1.0) -> None:
    """The key gets this code (empty: it opens) within so many seconds."""
    until = time.monotonic() + within
    while (found := code(models(gateway, key))) != wanted:
        assert time.monotonic() < until, f"{found!r} and not {wanted!r} after {within} s"
        time.sleep(0.02)


def made(gateway: Gateway, tenant: str, **terms: object) -> dict[str, Any]:
    answer = admin(gateway.url, "POST", "keys", {"tenant": tenant, **terms})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_what_is_made_at_one_gateway_opens_the_other_within_a_second(start: Start, redis: Redis) -> None:
    one, two = (start(HERE / "gateway.yaml", env=env(redis)) for _ in range(2))
    assert admin(one.url, "POST", "tenants", {"name": "omega", "class": "batch"}).status_code == 201
    key = made(one, "omega")
    assert code(models(one, key["key"])) == ""
    soon(two, key["key"], "")
    until = time.monotonic() + 20
    while code(answer := chat(two, key["key"])) == "capacity_max_wait":  # the first start waits for a lease of shares
        assert time.monotonic() < until
    assert answer.status_code == 200
    assert admin(two.url, "DELETE", f"keys/{key['id']}").status_code == 200
    assert code(models(two, key["key"])) == "revoked_api_key"
    soon(one, key["key"], "revoked_api_key")
    short = made(one, "omega", expires=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2)))
    soon(two, short["key"], "")
    soon(two, short["key"], "expired_api_key", within=4.0)
    for gateway in (one, two):
        told = "".join(gateway.lines) + httpx.get(f"{gateway.url}/readyz").text
        assert key["key"] not in told


def test_they_outlive_gateways_and_a_redis_that_keeps_what_it_is_told(start: Start, kept: Redis) -> None:
    first = start(HERE / "gateway.yaml", env=env(kept))
    assert admin(first.url, "PUT", "tenants/omega", {}).status_code == 200
    key = made(first, "omega")["key"]
    assert first.stop() == 0
    kept.kill()
    kept.start()
    second = start(HERE / "gateway.yaml", env=env(kept))
    assert code(models(second, key)) == ""


def test_a_redis_that_is_killed_changes_nothing_for_who_is_known(start: Start, redis: Redis, key: str) -> None:
    one, two = (start(HERE / "gateway.yaml", env=env(redis)) for _ in range(2))
    assert admin(one.url, "PUT", "tenants/omega", {}).status_code == 200
    made_here = made(one, "omega")["key"]
    soon(two, made_here, "")
    redis.kill()
    late = start(HERE / "gateway.yaml", env=env(redis))
    for gateway in (one, two):
        assert code(models(gateway, made_here)) == ""
        assert code(admin(gateway.url, "DELETE", "tenants/omega")) == "registry_unreachable"
        assert "those known last go on" in httpx.get(f"{gateway.url}/readyz").json()["tenants"]
    assert (code(models(late, key)), code(models(late, made_here))) == ("", "invalid_api_key")
    assert "only those of the document" in httpx.get(f"{late.url}/readyz").json()["tenants"]
    redis.start()  # empty: it kept nothing, but the gateways did
    soon(late, made_here, "", within=5.0)
    soon(one, made_here, "", within=5.0)
    until = time.monotonic() + 5
    while "tenants" in httpx.get(f"{late.url}/readyz").json():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_admin_api_may_have_a_door_of_its_own_also_with_workers(start: Start, redis: Redis, key: str) -> None:
    words = env(redis, SPILLGATE_ADMIN_PORT="0")
    gateway = start(HERE / "gateway.yaml", "--workers", "2", env=words)
    (url,) = re.findall(r"admin API: (http://\S+)/admin/v1", "".join(gateway.lines))
    assert admin(url, "PUT", "tenants/omega", {}).status_code == 200
    assert code(admin(url, "GET", "tenants", key="sk-wrong")) == "invalid_api_key"
    assert code(admin(gateway.url, "GET", "tenants")) == "unknown_url"
    headers = {"authorization": f"Bearer {key}"}
    assert code(httpx.post(f"{url}/v1/chat/completions", json=BODY, headers=headers)) == "unknown_url"
    assert httpx.get(f"{url}/readyz").status_code == 200
    answer = admin(url, "POST", "keys", {"tenant": "omega"})
    time.sleep(1.0)
    assert {code(models(gateway, answer.json()["key"])) for _ in range(20)} == {""}  # whichever worker answers


def test_a_gateway_that_enrols_is_never_open_to_everybody(start: Start, redis: Redis, tmp_path: Path) -> None:
    document = tmp_path / "nobody.yaml"
    text = (HERE / "gateway.yaml").read_text()
    document.write_text(text[: text.index("tenants:")])
    redis.kill()
    gateway = start(document, env=env(redis))
    assert code(models(gateway, "sk-anything")) == "invalid_api_key"


def test_the_command_makes_lists_and_revokes(start: Start, redis: Redis, spillgate: Any) -> None:
    gateway = start(HERE / "gateway.yaml", env=env(redis))

    def say(*words: str, **more: str) -> Any:
        given = {"SPILLGATE_ADMIN_KEY": ADMIN, "COLUMNS": "160", **more}
        return spillgate("keys", *words, "--url", gateway.url, **given)

    lost = say("new", "omega")
    assert (lost.returncode, lost.stdout) == (1, "")
    assert "no tenant 'omega'" in lost.stderr
    new = say("new", "omega", "--create", "--class", "batch", "--weight", "2", "--name", "one", "--expires", "30d")
    key = new.stdout.strip()
    assert (new.returncode, key.startswith("sk-spill-"), key in new.stderr) == (0, True, False)
    assert code(models(gateway, key)) == ""
    assert say("new", "omega", "--create").returncode == 0
    assert "not changed" in say("new", "omega", "--create", "--weight", "3").stderr
    turned = json.loads(say("new", "omega", "--replaces", "one", "--overlap", "1h", "--json").stdout)
    assert code(models(gateway, turned["key"])) == code(models(gateway, key)) == ""
    shown = say("list", "omega").stdout
    assert re.search(r"omega +[0-9a-f]{12} +one +active", shown)
    assert key not in shown
    listed = json.loads(say("list", "--json").stdout)
    assert {found["source"] for found in listed} == {"document", "runtime"}
    assert "opens nothing" in say("revoke", "one").stdout
    assert code(models(gateway, key)) == "revoked_api_key"
    assert "SPILLGATE_ADMIN_KEY" in say("list", SPILLGATE_ADMIN_KEY="").stderr
    assert "admin key" in say("list", SPILLGATE_ADMIN_KEY="sk-wrong").stderr
    assert say("new", "omega", "--expires", "soon").returncode == 2
    assert say("new", "omega", "--weight", "2").returncode == 2


def test_the_command_without_a_gateway(spillgate: Any, start: Start) -> None:
    made_offline = spillgate("keys", "new", "acme", "--offline", "--name", "one", "--expires", "2027-12-31")
    key = made_offline.stdout.strip()
    (line,) = re.findall(r"- (\{key: .*\})", made_offline.stderr)
    assert '"2027-12-31"' in line
    assert key not in made_offline.stderr
    as_json = json.loads(spillgate("keys", "new", "acme", "--offline", "--json").stdout)
    assert as_json["document"]["key"].startswith("sha256:")
    lost = spillgate("keys", "list", "--url", "http://127.0.0.1:1", SPILLGATE_ADMIN_KEY=ADMIN)
    assert (lost.returncode, "Traceback" in lost.stderr) == (1, False)
    assert "no answer" in lost.stderr
