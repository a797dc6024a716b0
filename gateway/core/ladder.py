"""What a request gives up when there is too little for all: rungs that apply one upon the other as pressure rises.

A policy's ladder is data. `form_at` answers, for a class and a pressure, what the rungs up to there ask for together:
the smallest cap on the answer, the lowest effort, thinking off if any says so, and the model that the highest names.
It looks at nothing else, so that what is rehearsed is what happens.

A rung that was reached holds until the pressure has fallen `SLACK` below it: taking load away must not put it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gateway.core.nouns import ServiceClass

SLACK = 0.05
Effort = Literal["low", "medium", "high"]
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Rung:
    """At a pressure of `at` and above, for these classes (empty: all). Empty words and None change nothing.

    max_tokens    answers are at most so long
    effort        reasoning is at most of this effort
    thinking_off  the model answers without thinking, where the cloud has a switch for it
    model         another model of the document answers
    """

    at: float
    classes: frozenset[ServiceClass] = frozenset()
    max_tokens: int | None = None
    effort: Effort | None = None
    thinking_off: bool = False
    model: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """What the rungs that hold ask of a request together."""

    max_tokens: int | None = None
    effort: Effort | None = None
    thinking_off: bool = False
    model: str = ""


FULL_FORM = Form()


def height(rungs: tuple[Rung, ...], pressure: float, held: float = 0.0) -> float:
    """The `at` of the highest rung that holds, 0 when none does; `held` is the height before, which is let go late."""
    return max((rung.at for rung in rungs if pressure >= rung.at - (SLACK if rung.at <= held else 0.0)), default=0.0)


def form_at(rungs: tuple[Rung, ...], class_: ServiceClass, pressure: float) -> Form:
    """What all rungs up to this pressure ask of a request of this class; `FULL_FORM` itself when they ask nothing."""
    caps: list[int] = []
    efforts: list[Effort] = []
    thinking_off, model = False, ""
    for rung in sorted(rungs, key=_at):
        if rung.at > pressure or (rung.classes and class_ not in rung.classes):
            continue
        caps += [] if rung.max_tokens is None else [rung.max_tokens]
        efforts += [] if rung.effort is None else [rung.effort]
        thinking_off = thinking_off or rung.thinking_off
        model = rung.model or model
    effort = min(efforts, key=EFFORTS.index, default=None)
    form = Form(min(caps, default=None), effort, thinking_off, model)
    return FULL_FORM if form == FULL_FORM else form


def _at(rung: Rung) -> float:
    return rung.at
