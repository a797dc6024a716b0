"""`degrade` and `comment_after` in the document."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.ladder import Rung
from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled

Compile = Callable[[str], Compiled]
DOCUMENT = """\
models:
  r2: {policy: p, aliases: [deep]}
  lite: {policy: q}
backends: {own: {preset: openai, base_url: "http://h/v1/", serves: {r2: x, lite: y}}}
policies:
  p:
    tiers: [{backends: [own]}]
    queue: {max_wait: 10s}
    degrade: RUNGS
  q: {tiers: [{backends: [own]}]}
"""


def document(*rungs: str) -> str:
    return DOCUMENT.replace("RUNGS", f"[{', '.join(rungs)}]")


def test_rungs_arrive_lowest_first(compile_text: Compile) -> None:
    high = "{at: 1.5, model: lite, thinking: off}"
    low = "{at: 0.9, classes: [batch, standard], max_tokens: 2k, reasoning_effort: low}"
    plan = compile_text(document(high, low)).plan
    assert plan.policies["p"].ladder == (
        Rung(0.9, frozenset({"batch", "standard"}), 2000, "low"),
        Rung(1.5, thinking_off=True, model="lite"),
    )
    assert plan.policies["q"].ladder == ()
    assert plan.policies["p"].queue.comment_after is None


def test_comments_begin_when_the_document_says(compile_text: Compile) -> None:
    plan = compile_text(document().replace("max_wait: 10s", "max_wait: 10s, comment_after: 2s")).plan
    assert plan.policies["p"].queue.comment_after == 2.0


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        (["{max_tokens: 5}"], r"9:\d+: policies\.p\.degrade\[0\]: 'at' is missing"),
        (["{at: 0, max_tokens: 5}"], r"degrade\[0\]\.at: '0' is too small"),
        (["{at: 1, max_tokens: 0}"], r"degrade\[0\]\.max_tokens: '0' is too small"),
        (["{at: 1, classes: [bulk], max_tokens: 5}"], r"degrade\[0\]\.classes\[0\]: 'bulk' is not known here"),
        (["{at: 1, reasoning_effort: max}"], r"degrade\[0\]\.reasoning_effort: 'max' is not known here"),
        (["{at: 1, thinking: on}"], r"degrade\[0\]\.thinking: 'on' is not known here"),
        (["{at: 1, max_tokens: 5}", "{at: 2}"], r"degrade\[1\]: changes nothing \(add max_tokens,"),
        (["{at: 1, model: lit}"], r"degrade\[0\]\.model: unknown model 'lit' \(did you mean 'lite'\?\)"),
        (["{at: 1, model: deep}"], r"degrade\[0\]\.model: 'deep' is an alias \(expected 'r2'\)"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_place(compile_text: Compile, rungs: list[str], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        compile_text(document(*rungs))


def test_models_must_not_lead_back_to_each_other(compile_text: Compile) -> None:
    text = document("{at: 1, model: lite}").replace("q: {tiers", "q: {degrade: [{at: 1, model: r2}], tiers")
    with pytest.raises(DocumentError) as caught:
        compile_text(text)
    assert [str(p).partition(" (")[0].partition(": ")[2] for p in caught.value.problems] == [
        "policies.p.degrade: 'r2' leads back to itself",
        "policies.q.degrade: 'lite' leads back to itself",
    ]


def test_a_chain_of_models_is_no_circle(compile_text: Compile) -> None:
    text = (
        document("{at: 1, model: lite}", "{at: 2, model: last}")
        .replace("  lite:", "  last: {policy: q}\n  lite:")
        .replace("lite: y}", "lite: y, last: z}")
        .replace("q: {tiers", "q: {degrade: [{at: 1, model: last}], tiers")
    )
    assert compile_text(text).warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("RUNGS", "[{at: 1, model: r2}]", "policies.p.degrade[0].model: has no effect: no other model uses this"),
        ("max_wait: 10s", "max_wait: 10s, comment_after: 10s", "policies.p.queue.comment_after: has no effect"),
    ],
)
def test_what_has_no_effect_is_warned_of(compile_text: Compile, old: str, new: str, warning: str) -> None:
    compiled = compile_text(DOCUMENT.replace(old, new).replace("RUNGS", "[]"))
    assert [warning in str(found) for found in compiled.warnings] == [True]
