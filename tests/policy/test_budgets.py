"""What a document says of budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gateway.core.money import MICRO, Budget
from gateway.core.nouns import Price
from gateway.core.tariff import Tariff
from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled, PresetInfo
from gateway.policy.load import load_text
from gateway.policy.reload import changes
from gateway.policy.roster import EMPTY, index

Compile = Callable[[str], Compiled]
ACME = 'keys: ["${ACME_KEY}"]'
PRICE = "price: {input: 1.0, output: 4.0}"


def budgeted(valid: str, words: str = "amount: 500") -> str:
    return valid.replace(ACME, f"{ACME}\n    budget: {{{words}}}")


@pytest.mark.parametrize(
    ("words", "budget"),
    [
        ("amount: 500", Budget(500 * MICRO)),
        ("amount: 0.5, per: hour, zone: UTC", Budget(MICRO // 2, "hour", east=0)),
        ("amount: 9, per: day, warn: 0.5, slice: 0.05", Budget(9 * MICRO, "day", 0.5, 0.05)),
    ],
)
def test_a_tenant_has_a_budget(valid: str, compile_text: Compile, words: str, budget: Budget) -> None:
    compiled = compile_text(budgeted(valid, words))
    assert (compiled.tenants[0].budget, compiled.tenants[1].budget, compiled.warnings) == (budget, None, ())
    assert index(compiled.tenants, EMPTY, {}).budgets == {"tenant:acme": budget}


def test_a_key_may_have_one_of_its_own(valid: str, compile_text: Compile) -> None:
    text = valid.replace(ACME, 'keys: [{key: "${ACME_KEY}", budget: {amount: 5, per: day}}]')
    compiled = compile_text(text)
    (key,) = compiled.tenants[0].keys
    assert key.budget == Budget(5 * MICRO, "day")
    assert index(compiled.tenants, EMPTY, {}).budgets == {f"key:{key.id}": key.budget}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("per: day", "'amount' is missing"),
        ("amount: -1", "too small"),
        ("amount: 1e10", "too large"),
        ("amount: 1, per: week", "'week' is not known here"),
        ("amount: 1, zone: Mars", "'Mars' is not known here"),
        ("amount: 1, slice: 0", "too small"),
        ("amount: 1, slice: 0.5", "too large"),
    ],
)
def test_what_is_wrong_with_a_budget_is_said(valid: str, compile_text: Compile, words: str, complaint: str) -> None:
    with pytest.raises(DocumentError, match=complaint):
        compile_text(budgeted(valid, words))


def test_a_price_in_another_currency_needs_a_rate(valid: str, compile_text: Compile) -> None:
    dollars = valid.replace(PRICE, "price: {input: 1.0, output: 4.0, currency: USD}")
    assert compile_text(dollars).warnings == ()
    with pytest.raises(DocumentError) as caught:
        compile_text(budgeted(dollars))
    (problem,) = caught.value.problems
    assert str(problem) == (
        "doc.yaml:18:5: backends.ark.price: its price is in USD, and the budget of tenant 'acme' in CNY "
        "(say what one USD is worth: rates: {USD: 7.1})"
    )
    rated = compile_text("rates: {USD: 7.1}\n" + budgeted(dollars))
    assert rated.rates == {"USD": 7.1}
    assert changes(compile_text(dollars), compile_text("rates: {USD: 7}\n" + dollars)) == ("rates changed",)


def test_the_own_currency_has_no_rate(valid: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match="is the document's own currency"):
        compile_text("rates: {CNY: 2}\n" + valid)


def test_a_cloud_without_a_price_is_doubtful_and_an_own_engine_is_free(valid: str, compile_text: Compile) -> None:
    text = budgeted(valid).replace(ACME + "\n    budget", ACME + "\n    models: [r2]\n    budget")
    assert compile_text(text).warnings == ()
    (warning,) = compile_text(text.replace(PRICE, "labels: {}")).warnings
    assert str(warning) == (
        "doc.yaml:12:3: backends.ark: tenant 'acme' has a budget, and this backend has no price: what it serves counts "
        "as free (give it a `price`)"
    )


@pytest.mark.parametrize(("models", "told"), [("[flash]", True), ("[deepseek-reasoner]", False)])
def test_only_what_a_tenant_may_use_is_looked_at(valid: str, compile_text: Compile, models: str, told: bool) -> None:
    text = budgeted(valid).replace(ACME + "\n    budget", ACME + f"\n    models: {models}\n    budget")
    text = text.replace("{r2: deepseek-v4-pro, flash: deepseek-v4-flash}", "{flash: deepseek-v4-flash}")
    assert bool(compile_text(text.replace(PRICE, "labels: {}")).warnings) == told


def test_each_backend_is_named_once(valid: str, compile_text: Compile) -> None:
    text = budgeted(valid).replace('keys: ["${ZETA_KEY}"]', 'keys: ["${ZETA_KEY}"]\n    budget: {amount: 1}')
    assert len(compile_text(text.replace(PRICE, "labels: {}")).warnings) == 1


def test_a_list_is_asked_for_prices_that_a_budget_needs(
    valid: str, env: Mapping[str, str], presets: dict[str, PresetInfo]
) -> None:
    presets["volcengine-ark"] = PresetInfo("volcengine-ark", "https://ark.example/v3", price_prefix="volc")
    tariff = Tariff(Price(1, 2, None, "USD"))

    def load(text: str) -> Any:
        return load_text(text, env, presets, "doc.yaml", lambda prefix, model: tariff)

    text = budgeted(valid).replace(PRICE, "labels: {}")
    with pytest.raises(DocumentError, match=r"backends\.ark: its price is in USD"):
        load(text)
    assert load("rates: {USD: 7.1}\n" + text).tariffs["ark"]["deepseek-v4-pro"] == tariff
