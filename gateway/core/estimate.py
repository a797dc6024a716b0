"""How many tokens a request will cost, before anybody has counted them.

Both halves are learnt per model from what clouds report. The prompt: bytes per token, a slow average that starts
at 3.5. The answer: the upper quartile of recent answers, starting at 1024; a request's own `max_tokens` only ever
lowers it, because reserving `max_tokens` as such wastes most of a tokens-per-minute limit.
"""

from __future__ import annotations

from gateway.core.latency import Quantiles
from gateway.core.nouns import Request, Usage

BYTES_PER_TOKEN = 3.5
FIRST_OUTPUT = 1024
_PRIOR = 4
_WEIGHT = 0.05
_REFRESH = 8, 64
"""The belief is renewed after that many answers: while young, and later (a quantile costs more than a count)."""


class Estimate:
    """What one model's requests cost. `bytes_per_token` and `output` are the current beliefs."""

    __slots__ = ("_answers", "_fresh", "bytes_per_token", "output")

    def __init__(self) -> None:
        self.bytes_per_token = BYTES_PER_TOKEN
        self.output = FIRST_OUTPUT
        self._answers = Quantiles(1.0)
        self._answers.add(FIRST_OUTPUT, _PRIOR)
        self._fresh = _REFRESH[0]

    def __repr__(self) -> str:
        return f"<Estimate {self.bytes_per_token:.2f} bytes/token, {self.output} tokens out>"

    def prompt(self, request: Request) -> int:
        """Expected prompt tokens, at least 1."""
        return int(request.prompt_bytes / self.bytes_per_token) + 1

    def answer(self, request: Request) -> int:
        """Expected output tokens."""
        most = request.max_tokens
        return self.output if most is None or most > self.output else most

    def learn(self, request: Request, usage: Usage) -> None:
        """A cloud has counted. Empty prompts say nothing about bytes per token."""
        if usage.prompt > 0 and request.prompt_bytes > 0:
            seen = request.prompt_bytes / usage.prompt
            if not 0.25 <= seen <= 16.0:
                seen = 0.25 if seen < 0.25 else 16.0
            self.bytes_per_token += _WEIGHT * (seen - self.bytes_per_token)
        self._answers.add(usage.completion)
        self._fresh -= 1
        if self._fresh <= 0:
            young, old = _REFRESH
            self._fresh = young if self._answers.total < old else old
            self.output = round(self._answers.at(0.75) or FIRST_OUTPUT)
