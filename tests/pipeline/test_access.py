"""Who is let in, to what, and what a cloud is told of him."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.policy import enrol, roster
from gateway.policy.keys import digest, key_id
from gateway.policy.roster import Roster
from gateway.service import Response
from gateway.testing import MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
NOW = 1.8e9  # what the wall shows all the time in these tests: 2027-01-15T08:00:00Z
WHOLE = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
).encode()
BACKENDS = """
models: {r2: {aliases: [deepseek-r2], policy: p}, flash: {policy: p}}
backends:
  one: {preset: deepseek, base_url: "http://one/v1", serves: {r2: x, flash: y}, key: "${CLOUD}"}
policies: {p: {tiers: [{backends: [one]}]}}
"""
DOCUMENT = (
    BACKENDS
    + """
tenants:
  acme:
    keys:
      - "${ACME}"
      - {key: "${OLD}", name: old, expires: 2027-01-15}
      - {key: "${SOON}", name: soon, expires: 2027-01-15T08:00:01Z}
      - {key: "${NOW}", name: now, expires: 2027-01-15T08:00:00Z}
    models: [deepseek-r2]
  beta: {keys: ["${BETA}"], user_id: customer-17}
  gone: {keys: ["${GONE}"], status: disabled}
"""
)
NAMES = ("ACME", "OLD", "SOON", "NOW", "BETA", "GONE", "CLOUD")
ENV = {name: f"sk-{name.lower()}-key" for name in NAMES}


def cloud() -> MemoryUpstream:
    return MemoryUpstream(Script((0.1, WHOLE)))


def error(response: Response) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)["error"]


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("", 401, "missing_api_key"),
        ("sk-nobody", 401, "invalid_api_key"),
        ("sk-acme-ke", 401, "invalid_api_key"),
        ("sk-acme-key\udcff", 401, "invalid_api_key"),
        ("sk-old-key", 401, "expired_api_key"),
        ("sk-now-key", 401, "expired_api_key"),
        ("sk-soon-key", 200, None),
        ("sk-gone-key", 403, "tenant_disabled"),
        ("sk-acme-key", 200, None),
    ],
)
def test_each_key_gets_the_answer_that_is_true_of_it(
    run: Run, house: Any, key: str, status: int, code: str | None
) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, DOCUMENT, **ENV)
        response, call = await h.ask(key=key)
        assert (response.status, error(response)["code"] if code else None) == (status, code)
        assert call.key == (key_id(digest(key)) if status == 200 else "")
        assert status == 200 or len(h.clouds["one"].bodies) == 0

    run(scenario())


def test_that_a_key_expired_is_told_to_those_who_show_all_of_it_only(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, DOCUMENT, **ENV)
        assert "2027-01-15T00:00:00Z" in error((await h.ask(key="sk-old-key"))[0])["message"]
        assert error((await h.ask(key="sk-old-keyx"))[0])["code"] == "invalid_api_key"

    run(scenario())


def test_a_model_that_one_may_not_use_is_refused_in_the_words_for_one_that_does_not_exist(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, DOCUMENT, **ENV)
        assert (await h.ask(key="sk-acme-key", model="deepseek-r2"))[0].status == 200
        said = []
        for model in ("flash", "flasj"):
            response, _ = await h.ask(key="sk-acme-key", model=model)
            assert (response.status, error(response)["code"]) == (404, "model_not_found")
            said.append(error(response)["message"].replace(model, "MODEL"))
        assert said[0] == said[1]
        assert "flash" not in said[0]
        assert (await h.ask(key="sk-beta-key", model="flash"))[0].status == 200

    run(scenario())


def test_a_cloud_that_keeps_users_apart_is_told_a_hash_or_what_the_document_says(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, DOCUMENT, **ENV)
        for key in ("sk-acme-key", "sk-acme-key", "sk-beta-key"):
            await h.ask(key=key)
        first, second, beta = (json.loads(body)["user_id"] for body in h.clouds["one"].bodies)
        assert first == second != beta == "customer-17"
        assert re.fullmatch("sg-[0-9a-f]{32}", first)

    run(scenario())


def test_users_of_a_tenants_own_are_kept_apart_and_cannot_pass_for_another_tenants(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, DOCUMENT, **ENV)
        await h.ask(key="sk-beta-key")
        for user in ("u1", "u2", "u1", "customer-17", 7):
            await h.ask(key="sk-acme-key", user_id=user)
        await h.ask(key="sk-beta-key", user_id="u1")
        beta, *acmes, betas_u1 = (json.loads(body)["user_id"] for body in h.clouds["one"].bodies)
        assert betas_u1.rpartition("-")[0] == beta
        assert betas_u1.rpartition("-")[2] != acmes[0].rpartition("-")[2]  # nor is it seen that their users are one
        assert acmes[0] == acmes[2]
        assert len({beta, *acmes}) == 5
        assert all(re.fullmatch("sg-[0-9a-f]{32}-[0-9a-f]{32}", found) for found in acmes)

    run(scenario())


def test_other_clouds_are_told_nothing_and_the_clients_own_word_passes(run: Run, house: Any) -> None:
    async def scenario() -> None:
        document = DOCUMENT.replace("preset: deepseek", "preset: vllm")
        h = house({"one": cloud()}, document, **ENV)
        await h.ask(key="sk-acme-key")
        await h.ask(key="sk-acme-key", user_id="mine", user="too")
        bodies = [json.loads(body) for body in h.clouds["one"].bodies]
        assert "user_id" not in bodies[0]
        assert (bodies[1]["user_id"], bodies[1]["user"]) == ("mine", "too")

    run(scenario())


def test_where_nobody_is_named_nothing_is_told_and_the_clients_own_word_passes(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, BACKENDS, CLOUD="sk-cloud-key")
        assert (await h.ask(key="anything"))[0].status == 200
        await h.ask(user_id="mine")
        bodies = [json.loads(body) for body in h.clouds["one"].bodies]
        assert "user_id" not in bodies[0]
        assert bodies[1]["user_id"] == "mine"

    run(scenario())


def grown(found: Roster, h: Any, act: Callable[..., enrol.Changes], *words: Any) -> Roster:
    changes = act(found, enrol.Given({t.name: t for t in h.live.compiled.tenants}, h.live.names), *words, NOW)
    merged = {**found.fields, **changes}
    return roster.read({name: raw for name, raw in merged.items() if raw is not None}, found)


def test_a_tenant_of_run_time_is_let_in_limited_and_let_go_like_any_other(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, DOCUMENT, **ENV)
        terms = {"limits": {"rpm": 1}, "models": ["flash"]}
        found = grown(roster.EMPTY, h, enrol.create, "omega", terms)
        found = grown(found, h, enrol.issue, "omega", {}, digest("sk-omega"))
        h.live.enrol(found)
        response, call = await h.ask(key="sk-omega", model="flash")
        assert (response.status, call.caller.name) == (200, "omega")
        assert error((await h.ask(key="sk-omega", model="flash"))[0])["code"] == "tenant_rpm_exceeded"
        assert error((await h.ask(key="sk-omega"))[0])["code"] == "model_not_found"
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        h.live.enrol(grown(found, h, enrol.revoke, key_id(digest("sk-omega"))))
        assert error((await h.ask(key="sk-omega", model="flash"))[0])["code"] == "revoked_api_key"
        h.live.enrol(roster.EMPTY)
        assert error((await h.ask(key="sk-omega", model="flash"))[0])["code"] == "invalid_api_key"

    run(scenario())


def test_a_reload_keeps_those_of_run_time_and_the_document_wins(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, DOCUMENT, **ENV)
        found = grown(roster.EMPTY, h, enrol.create, "omega", {"class": "batch"})
        h.live.enrol(grown(found, h, enrol.issue, "omega", {}, digest("sk-omega")))
        assert (await h.ask(key="sk-omega"))[1].caller.class_ == "batch"
        document = DOCUMENT + '  omega: {keys: ["${OMEGA}"], class: interactive}\n'
        h.live.install(type(h)({"one": cloud()}, document, **ENV, OMEGA="sk-omega-2").live.compiled)
        for key in ("sk-omega", "sk-omega-2"):
            assert (await h.ask(key=key))[1].caller.class_ == "interactive"

    run(scenario())


def test_when_somebody_is_named_at_run_time_the_gateway_is_no_longer_open(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, BACKENDS, CLOUD="sk-cloud-key")
        assert (await h.ask())[0].status == 200
        h.live.enrol(grown(roster.EMPTY, h, enrol.create, "omega", {}))
        assert error((await h.ask())[0])["code"] == "missing_api_key"

    run(scenario())


def test_meters_of_tenants_that_went_away_are_let_go(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": cloud()}, DOCUMENT, **ENV)
        for number in range(300):
            found = grown(roster.EMPTY, h, enrol.create, f"t{number}", {"limits": {"rpm": 9}})
            h.live.enrol(grown(found, h, enrol.issue, f"t{number}", {}, digest(f"sk-{number}")))
            assert (await h.ask(key=f"sk-{number}"))[0].status == 200
        assert len(h.limit.scopes.all) < 120

    run(scenario())
