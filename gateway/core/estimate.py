"""How many tokens a request will cost, before anybody has counted them.

Both halves are learnt per model from what clouds report, a little to the careful side, because what was reserved too
little flows past a limit and what was reserved too much is given back within seconds.

The prompt: bytes per token, a slow average that starts at 3.5, less its mean deviation. The answer: the upper
quartile of recent answers. A request that names `max_tokens` is compared with others that named about as much (the
same power of two), by the share of it that they used: some clients ask for 32,768 and use a twentieth, others ask for
exactly what they get. Reserving `max_tokens` as such would waste most of a tokens-per-minute limit.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from typing import Protocol

from gateway.core.latency import Quantiles
from gateway.core.nouns import Usage

BYTES_PER_TOKEN = 3.5
FIRST_OUTPUT = 1024
_PRIOR = 4
_WEIGHT = 0.05
_QUARTILE = 0.75
_REFRESH = 8, 64
"""The belief is renewed after that many answers: while young, and later (a quantile costs more than a count)."""
_SIZES = 40

_YOUNG = 8
"""Answers of a tenant's own before what he asks is judged by them."""


class Sized(Protocol):
    """What is looked at: a `Request`, or what will become one."""

    @property
    def prompt_bytes(self) -> int: ...
    @property
    def max_tokens(self) -> int | None: ...


class Lengths:
    """The upper quartile of what was seen, renewed now and then."""

    __slots__ = ("_fresh", "_seen", "upper")

    def __init__(self, smallest: float, first: float) -> None:
        self.upper = first
        self._seen = Quantiles(smallest)
        self._seen.add(first, _PRIOR)
        self._fresh = _REFRESH[0]

    def add(self, value: float) -> None:
        self._seen.add(value)
        self._fresh -= 1
        if self._fresh <= 0:
            young, old = _REFRESH
            self._fresh = young if self._seen.total < old else old
            self.upper = self._seen.at(_QUARTILE) or self.upper


class Estimate:
    """What one model's requests cost. `bytes_per_token` and `output` are the current beliefs."""

    __slots__ = ("_answers", "_careful", "_deviation", "_shares", "bytes_per_token")

    def __init__(self) -> None:
        self.bytes_per_token = BYTES_PER_TOKEN
        self._careful = BYTES_PER_TOKEN
        self._deviation = 0.0
        self._answers = Lengths(1.0, FIRST_OUTPUT)
        self._shares: list[Lengths | None] = [None] * _SIZES

    def __repr__(self) -> str:
        return f"<Estimate {self.bytes_per_token:.2f} bytes/token, {self.output} tokens out>"

    @property
    def output(self) -> int:
        """Tokens that three of four answers without a `max_tokens` do not exceed."""
        return round(self._answers.upper)

    def prompt(self, request: Sized) -> int:
        """Expected prompt tokens, at least 1."""
        return int(request.prompt_bytes / self._careful) + 1

    def answer(self, request: Sized) -> int:
        """Expected output tokens, never above `max_tokens`."""
        most = request.max_tokens
        if most is None:
            return round(self._answers.upper)
        shares = self._shares[_size(most)]
        if shares is None:
            return min(FIRST_OUTPUT, most)
        expected = ceil(most * shares.upper)
        return min(most, expected)

    def learn(self, request: Sized, usage: Usage) -> None:
        """A cloud has counted. Empty prompts say nothing about bytes per token."""
        if usage.prompt > 0 and request.prompt_bytes > 0:
            self._weigh(request.prompt_bytes / usage.prompt)
        most = request.max_tokens
        if most is None:
            self._answers.add(usage.completion)
            return
        size = _size(most)
        shares = self._shares[size]
        if shares is None:
            shares = self._shares[size] = Lengths(1e-6, min(1.0, FIRST_OUTPUT / most))
        shares.add(usage.completion / most)

    def _weigh(self, seen: float) -> None:
        if not 0.25 <= seen <= 16.0:
            seen = 0.25 if seen < 0.25 else 16.0
        off = seen - self.bytes_per_token
        self.bytes_per_token += _WEIGHT * off
        self._deviation += _WEIGHT * ((off if off > 0 else -off) - self._deviation)
        careful = self.bytes_per_token - self._deviation
        self._careful = max(0.25, careful)


def _size(most: int) -> int:
    size = most.bit_length()
    return size if size < _SIZES else _SIZES - 1


class Estimates:
    """Estimates by tenant and model, `most` of them: those unused for longest go first."""

    def __init__(self, most: int = 2000) -> None:
        self._most = most
        self._own: OrderedDict[tuple[str, str], Own] = OrderedDict()
        self._models: OrderedDict[str, Estimate] = OrderedDict()

    def of(self, tenant: str, model: str) -> Own:
        """The estimate for this tenant's requests for this model."""
        own = self._own.get((tenant, model))
        if own is None:
            if len(self._own) >= self._most:
                self._own.popitem(last=False)
            if model not in self._models and len(self._models) >= self._most:
                self._models.popitem(last=False)
            own = self._own[tenant, model] = Own(self._models.setdefault(model, Estimate()))
        else:
            self._own.move_to_end((tenant, model))
        return own


class Own:
    """One tenant's estimate for one model: the model's until `_YOUNG` of its own answers have been counted."""

    __slots__ = ("_left", "_model", "_own")

    def __init__(self, model: Estimate) -> None:
        self._model = model
        self._own = Estimate()
        self._left = _YOUNG

    def prompt(self, request: Sized) -> int:
        """See `Estimate.prompt`."""
        return (self._model if self._left else self._own).prompt(request)

    def answer(self, request: Sized) -> int:
        """See `Estimate.answer`."""
        return (self._model if self._left else self._own).answer(request)

    def learn(self, request: Sized, usage: Usage) -> None:
        """See `Estimate.learn`."""
        self._left -= 1 if self._left else 0
        self._own.learn(request, usage)
        self._model.learn(request, usage)
