"""What a tenant's requests cost is judged by his own, once there are some."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.estimate import FIRST_OUTPUT, Estimates
from gateway.core.nouns import Usage


@dataclass
class Ask:
    prompt_bytes: int = 4000
    max_tokens: int | None = None


def test_a_young_tenant_follows_the_model_and_an_old_one_himself() -> None:
    estimates = Estimates()
    assert estimates.of("acme", "r2").answer(Ask()) == FIRST_OUTPUT
    for _ in range(100):
        estimates.of("acme", "r2").learn(Ask(), Usage(1000, 50))
    young, old = estimates.of("beta", "r2"), estimates.of("acme", "r2")
    assert 45 <= old.answer(Ask()) <= 60
    assert young.answer(Ask()) == old.answer(Ask())
    assert 1000 <= young.prompt(Ask()) <= 1010
    for _ in range(20):
        young.learn(Ask(), Usage(2000, 500))
    assert young.answer(Ask()) > 400
    assert young.prompt(Ask()) > old.prompt(Ask())
    assert estimates.of("acme", "other").answer(Ask()) == FIRST_OUTPUT


def test_never_more_than_max_tokens() -> None:
    assert Estimates().of("acme", "r2").answer(Ask(max_tokens=7)) == 7


def test_those_unused_for_longest_are_forgotten() -> None:
    estimates = Estimates(most=2)
    first = estimates.of("a", "r2")
    estimates.of("b", "r3")
    assert estimates.of("a", "r2") is first
    estimates.of("c", "r4")
    assert estimates.of("a", "r2") is first
    assert estimates.of("b", "r3") is not None
    assert (len(estimates._own), len(estimates._models)) == (2, 2)
