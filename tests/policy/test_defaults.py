"""What a document leaves out is what the core takes for granted: the two lists of defaults are one."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.nouns import BreakerRules, QueueRules, RetryRules, Timeouts
from gateway.policy.compiled import CacheRules, Compiled

DOCUMENT = """
models: {r2: {}}
backends: {a: {preset: openai, base_url: "http://h/v1", serves: {r2: r2}}}
policies: {only: {tiers: [{backends: [a]}]}}
"""


def test_the_documents_defaults_are_the_cores(compile_text: Callable[[str], Compiled]) -> None:
    policy = compile_text(DOCUMENT).plan.policies["only"]
    assert policy.breaker == BreakerRules()
    assert policy.queue == QueueRules()
    assert policy.retry == RetryRules()
    assert policy.timeouts == Timeouts()
    assert policy.hedge is None
    assert compile_text(DOCUMENT).caches == {}
    cached = compile_text(DOCUMENT.replace("{tiers:", "{cache: {}, tiers:")).caches
    assert cached == {"only": CacheRules()}
