"""Sums over usage records, read line by line: what was used and what it cost, by tenant, model, backend, day.

A request counts once, whatever sinks and retries made of it; tokens and cost count for every attempt that had any, at
the backend that had them. Amounts in different currencies are never added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from decimal import Decimal

import msgspec

from gateway.telemetry.usage import Try, UsageRecord

DIMENSIONS = ("tenant", "key", "class", "model", "backend", "served", "status", "day")
_CHUNK = 4096
_decode = msgspec.json.Decoder(UsageRecord).decode


@dataclass(slots=True)
class Sum:
    """Mutable. `cost` is by currency.

    `answered`: requests that got an answer, from a backend or given again. `lost`: attempts beside the answer.
    `estimated`: attempts whose tokens no cloud has told. `unpriced`: attempts with tokens and without a known price.
    """

    requests: int = 0
    answered: int = 0
    lost: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: int = 0
    unpriced: int = 0
    cost: dict[str, Decimal] = field(default_factory=dict)

    def add(self, part: UsageRecord | Try) -> None:
        """Add one attempt."""
        self.input += part.input
        self.cached += part.cached
        self.output += part.output
        self.reasoning += part.reasoning
        self.estimated += part.estimated
        if part.cost is None:
            self.unpriced += bool(part.backend) and part.input + part.output > 0
        else:
            self.cost[part.currency] = self.cost.get(part.currency, Decimal(0)) + Decimal(part.cost)


class Seen:
    """Which requests were seen. Our ids end in a serial number, so a million take a few hundred kilobytes."""

    def __init__(self) -> None:
        self._serials: dict[tuple[str, int], int] = {}
        self._others: set[str] = set()

    def first(self, id_: str) -> bool:
        """Whether this one is new."""
        prefix, _, serial = id_.rpartition("-")
        try:
            number = int(serial[:16], 16)
        except ValueError:
            number = -1
        if f"{number:x}" != serial:
            known = len(self._others)
            self._others.add(id_)
            return len(self._others) > known
        chunk, bit = divmod(number, _CHUNK)
        before = self._serials.get((prefix, chunk), 0)
        self._serials[prefix, chunk] = after = before | 1 << bit
        return after != before


class Report:
    """One pass over records. `since` and `until` are Unix seconds (of the arrival), `by` some of `DIMENSIONS`."""

    def __init__(self, by: Sequence[str], zone: tzinfo, since: float = 0.0, until: float = float("inf")) -> None:
        self.by = tuple(by)
        self.rows: dict[tuple[str, ...], Sum] = {}
        self.total = Sum()
        self.torn = 0
        self.twice = 0
        self._zone = zone
        self._since = since
        self._until = until
        self._seen = Seen()

    def read(self, lines: Iterable[bytes]) -> None:
        """Take in records. What is not one (a line cut short when a process was killed) is counted in `torn`."""
        for line in lines:
            if not line.strip():
                continue
            try:
                record = _decode(line)
                arrived = datetime.fromisoformat(record.at)
            except (msgspec.MsgspecError, ValueError):
                self.torn += 1
                continue
            if not self._since <= arrived.timestamp() < self._until:
                continue
            if self._seen.first(record.id):
                self._add(record, arrived)
            else:
                self.twice += 1

    def sorted(self) -> list[tuple[tuple[str, ...], Sum]]:
        """The rows in the order of their names."""
        return sorted(self.rows.items())

    def _add(self, record: UsageRecord, arrived: datetime) -> None:
        day = arrived.astimezone(self._zone).date().isoformat() if "day" in self.by else ""
        for total in (self._row(record, record, day), self.total):
            total.requests += 1
            total.answered += bool(record.backend or record.outcome)
            total.add(record)
        for part in record.lost:
            for total in (self._row(record, part, day), self.total):
                total.lost += 1
                total.add(part)

    def _row(self, record: UsageRecord, part: UsageRecord | Try, day: str) -> Sum:
        values = {
            "tenant": record.tenant,
            "key": record.key,
            "class": record.class_,
            "model": record.model,
            "status": str(record.status),
            "backend": part.backend,
            "served": part.served,
            "day": day,
        }
        return self.rows.setdefault(tuple(values[name] for name in self.by), Sum())
