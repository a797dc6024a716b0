"""What a valid document means."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from gateway.core.caps import UNLIMITED
from gateway.core.nouns import Account, HedgeRules, Limits, Model, Price, Request, RetryRules
from gateway.core.rules import AffinityRules
from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled, Connection, PresetInfo
from gateway.policy.load import load_text
from gateway.policy.walk import read

Compile = Callable[[str], Compiled]

SMALL = """\
models: {r2: {}}
backends:
  own: {preset: openai, base_url: "http://h/v1/", serves: {r2: x}}
policies:
  only: {tiers: [{backends: [own]}]}
"""


def test_everything_arrives_where_it_belongs(valid: str, compile_text: Compile) -> None:
    compiled = compile_text(valid)
    plan = compiled.plan
    assert plan.models == {"r2": Model("r2", "surge", ("deepseek-reasoner",)), "flash": Model("flash", "cheap")}
    assert plan.accounts == {
        "own": Account("own", Limits(streams=48), "within"),
        "ark-main": Account("ark-main", Limits(streams=200, rpm=3000), "within"),
    }
    ark = plan.backends["ark"]
    assert (ark.account, ark.serves) == ("ark-main", {"r2": "deepseek-v4-pro", "flash": "deepseek-v4-flash"})
    assert ark.price == Price(1.0, 4.0, None, "CNY")
    surge = plan.policies["surge"]
    assert [tier.backends for tier in surge.tiers] == [("own",), ("ark",)]
    assert surge.tiers[1].when_text == 'request.class == "interactive"'
    assert (surge.queue.max_wait, surge.queue.max_length, surge.retry) == (20.0, 1000, RetryRules(0.1))
    assert plan.policies["cheap"].tiers[0].weights == {"ark": 2.0, "own": 1.0}
    assert compiled.connections["own"] == Connection("openai", "http://10.0.0.5:8000/v1", traced=True)
    assert compiled.connections["ark"].base_url == "https://ark.example/api/v3"
    assert compiled.connections["ark"].key == "ark-key-nobody-may-see"
    assert (compiled.max_body, compiled.currency, compiled.warnings) == (2**24, "CNY", ())


def test_hedges_are_asked_for(valid: str, compile_text: Compile) -> None:
    assert compile_text(valid).plan.policies["surge"].hedge is None
    found = compile_text(valid.replace("    retry:", "    hedge: {}\n    retry:"))
    assert (found.plan.policies["surge"].hedge, found.warnings) == (HedgeRules(0.02, None), ())
    found = compile_text(valid.replace("    retry:", "    hedge: {budget: 0.05, after: 1500ms}\n    retry:"))
    assert found.plan.policies["surge"].hedge == HedgeRules(0.05, 1.5)
    late = compile_text(valid.replace("    retry:", "    hedge: {after: 60s}\n    retry:"))
    assert [str(w) for w in late.warnings if "`first_token_timeout` ends the first attempt" in str(w)]


def test_a_condition_is_compiled(valid: str, compile_text: Compile) -> None:
    when = compile_text(valid).plan.policies["surge"].tiers[1].when
    assert when is not None
    assert when(Request("1", "acme", "r2", "interactive", 1, None, stream=False, arrived=0.0))
    assert not when(Request("1", "acme", "r2", "batch", 1, None, stream=False, arrived=0.0))


def test_tenants_are_known_by_the_digests_of_their_keys(valid: str, compile_text: Compile) -> None:
    digest = hashlib.sha256(b"one-more-key").hexdigest()
    acme, zeta = compile_text(valid.replace('["${ACME_KEY}"]', f'["${{ACME_KEY}}", sha256:{digest}]')).tenants
    assert tuple(key.digest for key in acme.keys) == (
        hashlib.sha256(b"acme-key-nobody-may-see").digest(),
        bytes.fromhex(digest),
    )
    assert (acme.class_, zeta.class_, zeta.weight, zeta.limits) == ("interactive", "standard", 1.0, UNLIMITED)


def test_no_repr_shows_a_secret(valid: str, env: Mapping[str, str], compile_text: Compile) -> None:
    from gateway.policy.diagnose import Problems
    from gateway.policy.tree import Mapping as Tree
    from gateway.policy.tree import compose

    text = valid.replace("    account:", '    headers: {X-Team: "${ARK_API_KEY}"}\n    account:')
    assert "may-see" not in repr(compile_text(text))
    root = compose(text, "doc.yaml", Problems())
    assert isinstance(root, Tree)
    assert "may-see" not in repr(read(root, env, Problems()))


def test_the_only_policy_is_every_models_policy(compile_text: Compile) -> None:
    compiled = compile_text(SMALL)
    assert compiled.plan.models["r2"].policy == "only"
    assert compiled.connections["own"].base_url == "http://h/v1"
    assert compiled.tenants == ()


def test_numbers_may_come_from_the_environment(compile_text: Compile) -> None:
    text = SMALL.replace("serves:", 'limits: {rpm: "${RPM}", tpm: "${TPM:-1.5k}"}, serves:')
    assert compile_text(text).plan.accounts["own"].limits == Limits(rpm=600, tpm=1500)


def test_words_that_yaml_would_turn_into_something_else_stay_words(compile_text: Compile) -> None:
    text = SMALL.replace("serves: {r2: x}", "serves: {r2: 1.10}, labels: {country: no, time: 1:30, zip: 0123}")
    backend = compile_text(text).plan.backends["own"]
    assert backend.serves == {"r2": "1.10"}
    assert backend.labels == {"country": "no", "time": "1:30", "zip": "0123"}


def test_an_anchor_can_be_merged_and_what_stands_beside_it_wins(compile_text: Compile) -> None:
    text = SMALL.replace("  own: {", "  own: &own {").replace(
        "policies:", "  two: {<<: *own, base_url: 'http://two'}\n  three: {<<: [*own, {key: k}]}\npolicies:"
    )
    connections = compile_text(text.replace("[own]", "[own, two, three]")).connections
    assert connections["two"] == Connection("openai", "http://two", traced=True)
    assert connections["three"] == Connection("openai", "http://h/v1", "k", traced=True)


def test_an_account_takes_its_limits_from_whoever_declares_them(compile_text: Compile) -> None:
    backend = "{preset: openai, base_url: 'http://h', serves: {r2: x}, account: one"
    text = SMALL.replace(
        "policies:",
        f"  b: {backend}}}\n  c: {backend}, limits: {{rpm: 5}}}}\n"
        f"  d: {backend}, limits: {{rpm: 5}}}}\n  e: {backend}, limits: {{}}}}\npolicies:",
    )
    assert compile_text(text.replace("[own]", "[own, b, c, d, e]")).plan.accounts["one"].limits == Limits(rpm=5)


def test_prices_name_their_currency(compile_text: Compile) -> None:
    text = SMALL.replace("serves:", "price: {input: 1, output: 2}, serves:") + "currency: USD\n"
    price = compile_text(text).plan.backends["own"].price
    assert price is not None
    assert price.currency == "USD"


def test_prices_in_two_currencies_are_not_compared(compile_text: Compile) -> None:
    other = (
        "  b: {preset: openai, base_url: 'http://h', serves: {r2: x}, price: {input: 1, output: 2, currency: USD}}\n"
    )
    text = SMALL.replace("serves:", "price: {input: 1, output: 2}, serves:").replace("policies:", other + "policies:")
    compile_text(text.replace("[own]", "[own, b]"))
    with pytest.raises(DocumentError, match=r"tiers\[0\]\.choose: prices in CNY and USD cannot be compared"):
        compile_text(text.replace("[own]", "[own, b], choose: cheapest"))


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("{tiers:", "{hedge: {}, tiers:", "5:10: policies.only.hedge: has no effect: there is no second backend"),
        ("{tiers:", "{hedge: {}, retry: {attempts: 1}, tiers:", "has no effect: `retry.attempts` allows one attempt"),
        (
            "{tiers:",
            "{cache: {max_entry: 3kB, max_bytes: 2kB}, tiers:",
            "5:18: policies.only.cache.max_entry: has no effect: `max_bytes` is less",
        ),
        ("{tiers:", "{affinity: none, tiers:", ""),
        (
            "policies:",
            "  idle: {preset: openai, base_url: 'http://h', serves: {r2: x}}\npolicies:",
            "no tier of any policy",
        ),
        ("  only:", "  idle: {tiers: [{backends: [own]}]}\n  only:", "5:3: policies.idle: no model uses"),
        ("[own]", "[own], weights: {own: 1}", "has no effect without `choose: weighted`"),
        ("[own]", "[own], choose: cheapest", "backend 'own' has no price"),
        ("serves:", "key: plain-key, serves:", "the key is written in the document (better: key: ${NAME})"),
    ],
)
def test_what_is_doubtful_is_a_warning(old: str, new: str, warning: str, compile_text: Compile) -> None:
    warnings = compile_text(SMALL.replace(old, new).replace("{r2: {}}", "{r2: {policy: only}}")).warnings
    assert [str(found) for found in warnings if warning in str(found)] == [str(found) for found in warnings]
    assert len(warnings) == bool(warning)


def test_a_condition_from_the_environment_is_not_shown_when_it_is_wrong(compile_text: Compile) -> None:
    with pytest.raises(DocumentError) as caught:
        compile_text(SMALL.replace("[own]", "[own], when: '${CEL}'"))
    assert "may-see" not in str(caught.value)
    assert "nobody" not in str(caught.value)
    assert "details are not shown" in str(caught.value)


def test_a_secret_in_the_wrong_place_is_shown_as_its_reference(compile_text: Compile) -> None:
    with pytest.raises(DocumentError) as caught:
        compile_text(SMALL.replace("models: {r2: {}}", "models: {r2: {aliases: ['${ACME_KEY}', '${ACME_KEY}']}}"))
    assert "the alias '${ACME_KEY}' is taken" in str(caught.value)


def test_a_preset_without_a_known_variable_suggests_one(presets: dict[str, PresetInfo]) -> None:
    with pytest.raises(DocumentError, match=r"key: \$\{DEEPSEEK_API_KEY\}"):
        load_text(SMALL.replace("preset: openai", "preset: deepseek"), {}, presets)


def test_an_empty_environment_and_no_presets_are_told_plainly() -> None:
    with pytest.raises(DocumentError) as caught:
        load_text(SMALL.replace("serves:", "key: '${ANY}', serves:"), {}, {})
    assert "unknown preset 'openai' (there is none)" in str(caught.value)
    assert "ANY is not set (export it)" in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "learn"),
    [("within", "within", "within"), ("within", "beyond", "beyond"), ("off", "beyond", "off")],
)
def test_an_account_learns_what_its_backends_allow(compile_text: Compile, first: str, second: str, learn: str) -> None:
    text = f"""
models: {{r2: {{policy: only}}}}
backends:
  one: {{preset: openai, base_url: "http://h/v1/", serves: {{r2: x}}, account: both, learn: {first}}}
  two: {{preset: openai, base_url: "http://h/v1/", serves: {{r2: x}}, account: both, learn: {second}}}
policies:
  only: {{tiers: [{{backends: [one, two]}}]}}
"""
    assert compile_text(text).plan.accounts["both"].learn == learn


DIALECT = PresetInfo("litellm", None, driver="litellm", providers=frozenset({"anthropic", "bedrock", "gemini"}))
OTHER = SMALL.replace('own: {preset: openai, base_url: "http://h/v1/", serves: {r2: x}}', "own: {%s}")


def test_a_backend_of_another_dialect_needs_no_preset_no_address_and_no_key(presets: dict[str, PresetInfo]) -> None:
    known = {**presets, "litellm": DIALECT}
    plain = load_text(OTHER % "driver: litellm, serves: {r2: bedrock/a/b}", {}, known)
    assert plain.connections["own"] == Connection("litellm", "", driver="litellm")
    full = "driver: litellm, base_url: 'http://h/', key: '${K}', headers: {x-a: b}, serves: {r2: anthropic/c}"
    found = load_text(OTHER % full, {"K": "secret-key"}, known)
    assert found.connections["own"] == Connection("litellm", "http://h", "secret-key", {"x-a": "b"}, "litellm")
    assert "secret-key" not in repr(found)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("driver: litellm, serves: {r2: antropic/c}", "unknown provider 'antropic' (did you mean 'anthropic'?)"),
        ("driver: litellm, serves: {r2: claude}", "names no provider (expected PROVIDER/ID"),
        ("driver: litellm, serves: {r2: anthropic/}", "names no provider"),
        ("driver: litellm, serves: {r2: '${ID}'}", "unknown provider '${ID}'"),
        ("driver: litellm, preset: openai, serves: {r2: gemini/c}", "a preset is for driver 'http' (leave it out"),
        ("driver: litelm, serves: {r2: gemini/c}", "'litelm' is not known here (did you mean 'litellm'?)"),
        ("driver: http, base_url: 'http://h', serves: {r2: c}", "'preset' is missing (driver 'http' wants to know"),
        ("preset: litellm, serves: {r2: gemini/c}", "unknown preset 'litellm' (expected driver: litellm)"),
        ("serves: {r2: c}", "'preset' is missing"),
    ],
)
def test_what_is_wrong_with_a_driver_is_said_with_its_place(
    words: str, says: str, presets: dict[str, PresetInfo]
) -> None:
    with pytest.raises(DocumentError) as caught:
        load_text(OTHER % words, {"ID": "secretcloud/c"}, {**presets, "litellm": DIALECT})
    assert says in str(caught.value)
    assert "secretcloud" not in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_driver_that_is_not_installed_is_named_with_the_way_to_it(presets: dict[str, PresetInfo]) -> None:
    absent = replace(DIALECT, lacks="make it so")
    with pytest.raises(DocumentError, match=r"own\.driver: 'litellm' is not installed here \(make it so\)"):
        load_text(OTHER % "driver: litellm, serves: {r2: gemini/c}", {}, {**presets, "litellm": absent})
    assert load_text(SMALL, {}, {**presets, "litellm": absent}).connections["own"].driver == "http"


def test_affinity_is_understood_in_short_and_in_full(compile_text: Compile) -> None:
    def affinity_of(words: str) -> AffinityRules | None:
        return compile_text(SMALL.replace("{tiers:", "{" + words + "tiers:")).plan.policies["only"].affinity

    assert affinity_of("") is None
    assert affinity_of("affinity: none, ") is None
    short = affinity_of("affinity: prefix, ")
    assert short is not None
    assert (short.keep, short.bound) == (1200.0, 1.25)
    assert re.search(short.ignore, "2026-11-24")
    full = affinity_of("affinity: {keep: 5m, bound: 2, ignore: [ids, 'run [0-9]+']}, ")
    assert full is not None
    assert (full.keep, full.bound) == (300.0, 2.0)
    assert re.fullmatch(full.ignore, "run 17")
    assert not re.search(full.ignore, "2026-11-24")
    with pytest.raises(DocumentError, match=r"ignore\[0\]: not a regular expression: .*expected dates, ids or"):
        affinity_of("affinity: {ignore: ['(']}, ")
