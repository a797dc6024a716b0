"""From the document's `degrade:` to a ladder, and what must hold of it."""

from __future__ import annotations

from gateway.core.ladder import Rung
from gateway.policy.checks import policy_of
from gateway.policy.diagnose import Path, Problems, nearest
from gateway.policy.schema import PolicyWord, RungWord
from gateway.policy.walk import Read


def ladder(word: PolicyWord) -> tuple[Rung, ...]:
    """The rungs, lowest first."""
    rungs = [
        Rung(
            rung.at,
            frozenset(rung.classes),
            rung.max_tokens,
            rung.reasoning_effort,
            rung.thinking == "off",
            rung.model,
        )
        for rung in word.degrade
    ]
    return tuple(sorted(rungs, key=lambda rung: rung.at))


def check_ladders(read: Read, problems: Problems) -> None:
    """Each rung changes something, other models exist, and no model leads back to itself."""
    for name, policy in read.document.policies.items():
        for number, rung in enumerate(policy.degrade):
            path = ("policies", name, "degrade", number)
            if not (rung.max_tokens or rung.reasoning_effort or rung.thinking or rung.model):
                hint = "add max_tokens, reasoning_effort, thinking or model"
                problems.error(read.at(*path), path, "changes nothing", hint)
            if rung.model:
                _check_model(read, rung.model, (*path, "model"), problems)
        queue, where = policy.queue, ("policies", name, "queue", "comment_after")
        if queue.comment_after is not None and queue.comment_after >= queue.max_wait:
            problems.warn(read.at(*where), where, "has no effect: nobody waits so long (`max_wait`)")
    for model in read.document.models:
        _check_circle(read, model, problems)


def _check_model(read: Read, model: str, path: Path, problems: Problems) -> None:
    models = read.document.models
    owner = next((name for name, word in models.items() if model in word.aliases), "")
    if model in models:
        if all(name == model for name in models if policy_of(read, name) == path[1]):
            problems.warn(read.at(*path), path, "has no effect: no other model uses this policy")
    elif owner:
        problems.error(read.value_at(*path), path, f"'{model}' is an alias", f"expected '{owner}'")
    else:
        problems.error(read.value_at(*path), path, f"unknown model '{model}'", nearest(model, models))


def _check_circle(read: Read, model: str, problems: Problems) -> None:
    reached: set[str] = set()
    todo = _others(read, model)
    while todo:
        other = todo.pop()
        if other == model:
            path = ("policies", policy_of(read, model), "degrade")
            hint = "a model that others fall back to must not lead back"
            problems.error(read.at(*path), path, f"'{model}' leads back to itself", hint)
            return
        if other not in reached:
            reached.add(other)
            todo += _others(read, other)


def _others(read: Read, model: str) -> list[str]:
    """The models that a request for this one may be turned into."""
    policy = read.document.policies.get(policy_of(read, model))
    rungs: list[RungWord] = policy.degrade if policy else []
    return [rung.model for rung in rungs if rung.model != model and rung.model in read.document.models]
