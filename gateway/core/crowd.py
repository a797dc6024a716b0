"""How many may wait for one model, and who gives way when they are too many.

The queue is bounded in requests and in bytes (a request that waits holds its prompt in memory). When it is full, room
is shared like service is: the tenant who has most of it for his weight gives up his newest request, unless it is the
newcomer's tenant himself: then the newcomer is refused. A burst thus fills what nobody else wants, and nothing more.

Bands come first here too, with the same floor: a newcomer displaces a lower band as long as that has more than `FLOOR`
of the queue, and a higher one only while his own has less than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.fair import CLASSES, FLOOR, Share
from gateway.core.nouns import QueueRules

if TYPE_CHECKING:
    from gateway.core.waiting import Ticket


class Crowd:
    """Who waits for one model: requests and bytes, by share."""

    __slots__ = ("_parts", "count", "size")

    def __init__(self) -> None:
        self.count = self.size = 0
        self._parts: dict[Share, tuple[int, int]] = {}

    def join(self, ticket: Ticket) -> None:
        self._add(ticket, 1)

    def leave(self, ticket: Ticket) -> None:
        self._add(ticket, -1)

    def is_over(self, rules: QueueRules) -> bool:
        """Are they too many, or do they hold too much?"""
        return self.count > rules.max_length or self.size > rules.max_bytes

    def who_gives_way(self, newcomer: Share, rules: QueueRules) -> Share:
        """Whose newest request must go, now that they are over a bound: perhaps the newcomer's own tenant's."""
        by, bound = (0, rules.max_length) if self.count > rules.max_length else (1, rules.max_bytes)
        most: dict[int, tuple[float, Share]] = {}
        used = [0] * len(CLASSES)
        for share, part in self._parts.items():
            rank = share.band.rank
            used[rank] += part[by]
            amount = part[by] * share.rate
            if rank not in most or amount > most[rank][0] or (amount == most[rank][0] and share is newcomer):
                most[rank] = (amount, share)
        own = newcomer.band.rank
        for rank in (*range(len(CLASSES) - 1, own, -1), *(range(own) if used[own] <= FLOOR * bound else ())):
            if used[rank] > FLOOR * bound:
                return most[rank][1]
        return most[own][1]

    def _add(self, ticket: Ticket, sign: int) -> None:
        size = sign * ticket.request.prompt_bytes
        count, held = self._parts.get(ticket.share, (0, 0))
        self.count += sign
        self.size += size
        if count + sign:
            self._parts[ticket.share] = (count + sign, held + size)
        else:
            del self._parts[ticket.share]
