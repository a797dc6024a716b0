"""What a document says of prices and of the records of usage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date

import pytest

from gateway.core.nouns import Price
from gateway.core.tariff import Hours, Tariff
from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled, PresetInfo, UsageRules
from gateway.policy.load import load_text
from gateway.policy.reload import changes

Compile = Callable[[str], Compiled]
PRICE = "price: {input: 1.0, output: 4.0}"
LISTED = Tariff(Price(0.2, 0.8, None, "USD"), (Hours(Price(0.1, 0.4, None, "USD"), ((0, 60),)),), 0)


def priced(valid: str, words: str) -> str:
    return valid.replace(PRICE, f"price: {{input: 1.0, output: 4.0, {words}}}")


def test_a_price_holds_for_every_model_of_its_backend(valid: str, compile_text: Compile) -> None:
    compiled = compile_text(valid)
    tariff = Tariff(Price(1.0, 4.0, None, "CNY"))
    assert compiled.tariffs == {"ark": {"deepseek-v4-pro": tariff, "deepseek-v4-flash": tariff}}
    assert compiled.plan.backends["ark"].price == tariff.base


def test_hours_are_read_with_their_days_dates_and_zone(valid: str, compile_text: Compile) -> None:
    words = (
        "cached_input: 0.5, zone: UTC, hours: [{at: [09:00-12:00, 22:30-06:00, 18:00-24:00], days: [mon, sun], "
        'not_on: ["2026-10-01"], input: 2, output: 8}, {at: [00:00-24:00], input: 3, cached_input: 1, output: 9}]'
    )
    (tariff, _) = compile_text(priced(valid, words)).tariffs["ark"].values()
    peak = Hours(
        Price(2, 8, None, "CNY"),
        ((540, 720), (1350, 1800), (1080, 1440)),
        frozenset({0, 6}),
        frozenset({date(2026, 10, 1).toordinal()}),
    )
    assert tariff == Tariff(Price(1, 4, 0.5, "CNY"), (peak, Hours(Price(3, 9, 1, "CNY"), ((0, 1440),))), 0)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("hours: [{at: [9-12], input: 1, output: 1}]", "'9-12' is not a span of hours"),
        ("hours: [{at: [09:00-09:00], input: 1, output: 1}]", "is not a span of hours"),
        ("hours: [{at: [09:00-24:30], input: 1, output: 1}]", "is not a span of hours"),
        ("hours: [{at: [], input: 1, output: 1}]", "is empty"),
        ("hours: [{input: 1, output: 1}]", "'at' is missing"),
        ("hours: [{at: [01:00-02:00], output: 1}]", "'input' is missing"),
        ("hours: [{at: [{x: 1}], input: 1, output: 1}]", "this is a mapping"),
        ("hours: [{at: [01:00-02:00], days: [monday], input: 1, output: 1}]", "'monday' is not known here"),
        ('hours: [{at: [01:00-02:00], not_on: ["1 May"], input: 1, output: 1}]', "'1 May' is not a date"),
        ("hours: [{at: [01:00-02:00], not_on: [[]], input: 1, output: 1}]", "this is a list"),
        ("zone: Europe/Paris", "'Europe/Paris' is not known here"),
    ],
)
def test_what_is_wrong_with_hours_is_said(valid: str, compile_text: Compile, words: str, complaint: str) -> None:
    with pytest.raises(DocumentError, match=complaint) as caught:
        compile_text(priced(valid, words))
    assert len(caught.value.problems) == 1


def test_a_change_of_hours_is_a_change_of_the_backend(valid: str, compile_text: Compile) -> None:
    new = compile_text(priced(valid, "hours: [{at: [01:00-02:00], input: 1, output: 1}]"))
    assert changes(compile_text(valid), new) == ("backend 'ark' changed",)


def test_records_go_nowhere_unless_the_document_says_so(valid: str, compile_text: Compile) -> None:
    assert compile_text(valid).usage is None
    new = compile_text(valid + "usage: {file: usage.jsonl, stream: 10k}\n")
    assert new.usage == UsageRules("usage.jsonl", 10_000)
    assert changes(compile_text(valid), new) == ("usage changed",)


@pytest.mark.parametrize("words", ["", "{}", "{stream: 0}"])
def test_usage_must_name_a_place(valid: str, compile_text: Compile, words: str) -> None:
    with pytest.raises(DocumentError, match="names no place for the records"):
        compile_text(valid + f"usage: {words}\n")


def test_without_a_list_nothing_else_has_a_price(
    valid: str, env: Mapping[str, str], presets: dict[str, PresetInfo]
) -> None:
    presets["volcengine-ark"] = PresetInfo("volcengine-ark", "https://ark.example/v3", price_prefix="volc")
    text = valid.replace(PRICE, "labels: {}") + "usage: {file: usage.jsonl}\n"
    assert load_text(text, env, presets).tariffs == {}


class TestList:
    """Where the document gives no price, a public list may."""

    @pytest.fixture
    def look(
        self, env: Mapping[str, str], presets: dict[str, PresetInfo]
    ) -> Callable[[str], tuple[Compiled, list[tuple[str, str]]]]:
        presets["volcengine-ark"] = PresetInfo("volcengine-ark", "https://ark.example/v3", price_prefix="volc")

        def load(text: str) -> tuple[Compiled, list[tuple[str, str]]]:
            asked: list[tuple[str, str]] = []

            def listed(prefix: str, model: str) -> Tariff | None:
                asked.append((prefix, model))
                return LISTED if model == "deepseek-v4-pro" else None

            return load_text(text, env, presets, "doc.yaml", listed), asked

        return load

    def test_is_asked_only_when_somebody_wants_to_know(
        self, valid: str, look: Callable[..., tuple[Compiled, list[object]]]
    ) -> None:
        compiled, asked = look(valid.replace(PRICE, "labels: {}"))
        assert (compiled.tariffs, compiled.notes, asked) == ({}, (), [])
        _, asked = look(valid + "usage: {stream: 1k}\n")
        assert asked == [], "the document's price stands, and the engine of our own is on no list"

    def test_prices_what_the_document_does_not(
        self, valid: str, look: Callable[..., tuple[Compiled, list[object]]]
    ) -> None:
        text = valid.replace(PRICE, "labels: {}") + "usage: {stream: 1k}\n"
        compiled, asked = look(text)
        assert asked == [("volc", "deepseek-v4-pro"), ("volc", "deepseek-v4-flash")]
        assert compiled.tariffs == {"ark": {"deepseek-v4-pro": LISTED}}
        assert compiled.plan.backends["ark"].price is None, "the plan has the document's prices only"
        assert [(note.path, note.message) for note in compiled.notes] == [
            ("backends.own", "no price is known for 'deepseek-r2': its cost stays empty"),
            ("backends.ark", "'deepseek-v4-pro' goes by its list price: 0.2 in, 0.8 out, USD, at some hours less"),
            ("backends.ark", "no price is known for 'deepseek-v4-flash': its cost stays empty"),
        ]
        assert not compiled.warnings

    def test_says_what_cheapest_cannot_compare(
        self, valid: str, look: Callable[..., tuple[Compiled, list[object]]]
    ) -> None:
        text = valid.replace(PRICE, "labels: {}").replace(
            "[ark], when: 'request.class == \"interactive\"'", "[ark, own], choose: cheapest"
        )
        text = text.replace("{backends: [own], choose: least-loaded}", "{backends: [own, ark], choose: cheapest}")
        compiled, _ = look(text.replace("limits: {streams: 48}", "price: {input: 1, output: 2}"))
        assert {warning.message for warning in compiled.warnings} == {
            "prices in CNY and USD cannot be compared; the rarer count as the dearest"
        }
        compiled, _ = look(text)
        assert {w.message for w in compiled.warnings} == {"backend 'own' has no price and counts as the dearest"}
