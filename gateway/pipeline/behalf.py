"""A call that is made for many: the call itself, what its answer took, how much all such hold."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from gateway.core.nouns import Usage
from gateway.service import Call

MOST_BUFFERED = 256 * 2**20
"""bytes of all answers under way; beyond, none is held for those who may come, and none is kept"""


class Stock:
    """How many bytes of answers under way are held, over all calls."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


@dataclass(frozen=True, slots=True)
class Paid:
    """What a complete answer took: tokens, and money if a price was known."""

    usage: Usage | None
    cost: Decimal | None
    currency: str


def on_behalf(founder: Call) -> Call:
    """The call that is made for all who ask what the founder asks."""
    assert founder.chat is not None
    call = Call(founder.id, founder.received, founder.headers, founder.read)
    call.caller, call.key = founder.caller, founder.key
    call.model, call.policy, call.max_wait = founder.model, founder.policy, founder.max_wait
    call.chat, call.easing, call.affinity = founder.chat.for_many(), founder.easing, founder.affinity
    return call


def hand_over(made: Call, call: Call) -> None:
    """Whose the call's story is from now on. Only who asked first has its place in a trace: a span belongs to one."""
    call.attempts = made.attempts
    call.queued, call.waits, call.decisions = made.queued, made.waits, made.decisions
    call.request = made.request
    if call.id == made.id:
        call.context = made.context


def end(made: Call, now: float) -> None:
    """It has ended: tell those who wait for that, as the edge does for a client's own."""
    made.ended = now
    for tell in reversed(made.on_end):
        tell(made)
