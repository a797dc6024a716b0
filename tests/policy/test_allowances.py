"""What callers may use: of tenants, keys and models, in the document and at run time."""

from __future__ import annotations

import pytest

from gateway.core.caps import Allowance, Caps
from gateway.errors import BadRequest, DocumentError
from gateway.policy import enrol, roster
from gateway.policy.compiled import Compiled
from gateway.policy.load import load_text
from gateway.upstream import presets

DOCUMENT = """
models: {r2: {aliases: [fast]}, r3: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x, r3: y}}}
policies: {p: {tiers: [{backends: [one]}]}}
tenants:
  acme:
    keys: [{key: "${ACME}", name: lap, limits: KEYS}]
    limits: LIMITS
"""


def load(limits: str = "{}", keys: str = "{}") -> Compiled:
    text = DOCUMENT.replace("LIMITS", limits).replace("KEYS", keys)
    return load_text(text, {"ACME": "sk-acme-key"}, presets.infos())


def test_tenants_and_keys_have_limits_of_every_kind_and_for_single_models() -> None:
    (acme,) = load(
        "{streams: 1, rps: 2, rpm: 3, tpm: 4k, tpm_in: 5, tpm_out: 6, per_model: {fast: {rpm: 7}, r3: {tpm: 8}}}",
        "{rpm: 9}",
    ).tenants
    assert acme.limits == Allowance(Caps(1, 2, 3, 4000, 5, 6), {"r2": Caps(rpm=7), "r3": Caps(tpm=8)})
    assert acme.keys[0].limits == Allowance(Caps(rpm=9))
    found = roster.index((acme,), roster.EMPTY, {})
    assert found.limits == {acme.keys[0].id: Allowance(Caps(rpm=9))}


def test_nobody_is_limited_by_silence() -> None:
    found = load()
    assert not found.tenants[0].limits
    assert roster.index(found.tenants, roster.EMPTY, {}).limits == {}


@pytest.mark.parametrize(
    ("limits", "keys", "told"),
    [
        ("{per_model: {r4: {rpm: 1}}}", "{}", "unknown model 'r4'"),
        ("{}", "{per_model: {r4: {rpm: 1}}}", "unknown model 'r4'"),
        ("{per_model: {r2: {rpm: 1}, fast: {rpm: 2}}}", "{}", "'fast' and 'r2' are the same model"),
        ("{tps: 5}", "{}", "tps"),
        ("{rpm: 0}", "{}", "rpm"),
    ],
)
def test_what_is_wrong_is_told(limits: str, keys: str, told: str) -> None:
    with pytest.raises(DocumentError, match=told):
        load(limits, keys)


def test_at_run_time_the_same_words_mean_the_same() -> None:
    names = {"r2": "r2", "fast": "r2"}
    terms = {"limits": {"rpm": 5, "per_model": {"fast": {"tpm": "2k"}}}}
    given = enrol.Given({}, names)
    fields = enrol.create(roster.EMPTY, given, "omega", terms, 1.0)
    found = roster.read({name: raw for name, raw in fields.items() if raw is not None})
    more = enrol.issue(found, given, "omega", {"limits": {"rpm": 1}}, b"\1" * 32, 1.0)
    found = roster.read({**found.fields, **{name: raw for name, raw in more.items() if raw is not None}})
    index = roster.index((), found, names)
    assert index.tenants["omega"].limits == Allowance(Caps(rpm=5), {"r2": Caps(tpm=2000)})
    assert list(index.limits.values()) == [Allowance(Caps(rpm=1))]
    for act in (
        lambda: enrol.create(roster.EMPTY, given, "o", {"limits": {"per_model": {"r9": {"rpm": 1}}}}, 1.0),
        lambda: enrol.issue(found, given, "omega", {"limits": {"per_model": {"r9": {"rpm": 1}}}}, b"\2" * 32, 1.0),
    ):
        with pytest.raises(BadRequest, match=r"limits\.per_model: unknown model 'r9'"):
            act()
