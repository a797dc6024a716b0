"""The word `affinity`: what of a prompt's beginning is ignored, as one regular expression."""

from __future__ import annotations

import re

from gateway.core.rules import AffinityRules
from gateway.policy.diagnose import Problems
from gateway.policy.schema import AffinityWord
from gateway.policy.walk import Read

NAMED = {
    "dates": r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?Z?)?",
    "ids": r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-f]{24,64}",
}
"""What has a name of its own among the things that change."""


def check(read: Read, problems: Problems) -> None:
    """What is to be ignored can be looked for."""
    for name, policy in read.document.policies.items():
        for index, ignored in enumerate(policy.affinity.ignore if policy.affinity else ()):
            path = ("policies", name, "affinity", "ignore", index)
            try:
                re.compile(ignored)
            except (re.error, OverflowError) as bad:
                hint = f"expected {', '.join(NAMED)} or a regular expression"
                problems.error(read.value_at(*path), path, f"not a regular expression: {bad}", hint)


def rules(word: AffinityWord | None) -> AffinityRules | None:
    """None: prompts may go anywhere."""
    if word is None or word.by == "none":
        return None
    return AffinityRules(word.keep, word.bound, "|".join(f"(?:{NAMED.get(one, one)})" for one in word.ignore))
