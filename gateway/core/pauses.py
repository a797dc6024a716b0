"""When nothing may be sent to an account at all: after its refusals, while its key is doubted. How it comes back
afterwards is told in `comeback`.

Rules
- `cooling_until` is 0, or the time before which nothing is sent; `inf` while a single request tries the key. A pause
  never ends before the time that the cloud named.
- Strikes of one kind lengthen the pause only if the struck request was sent after the pause before: a volley of
  refusals is one piece of news.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from gateway.core.comeback import later

if TYPE_CHECKING:
    from random import Random

AUTH_PAUSE = 600.0

PAUSES: dict[str, tuple[float, float, float]] = {
    "rpm": (5.0, 60.0, 120.0),
    "tpm": (5.0, 60.0, 120.0),
    "burst": (5.0, 5.0, 120.0),
    "concurrency": (1.0, 1.0, 120.0),
    "quota": (900.0, 21600.0, 21600.0),
}
"""First pause, longest pause, and the longest that a cloud may ask for; seconds."""


class Pauses:
    """The pauses of one account. See the module for the rules."""

    __slots__ = ("_strikes", "_struck_at", "cooling_reason", "cooling_until", "on_trial")

    def __init__(self) -> None:
        self.cooling_until = 0.0
        self.cooling_reason = ""
        self.on_trial = False
        self._strikes = 0
        self._struck_at = -inf

    def struck(self, kind: str, sent: float, now: float, retry_after: float | None, rng: Random) -> float:
        """The cloud refused a request sent at `sent`. The pause that this is worth; 0: it is no news."""
        first, longest, most = PAUSES[kind]
        fresh = sent > self._struck_at
        if retry_after is not None:
            pause = min(max(retry_after, 1.0), most)
        else:
            pause = min(first * 2.0 ** min(self._strikes, 30), longest) if fresh else 0.0
        if now + pause > self.cooling_until:
            self.cool(now + later(pause, rng), kind, now)
        if not fresh:
            return 0.0
        self._strikes += 1
        self._struck_at = now
        return pause

    def cool(self, until: float, reason: str, now: float) -> None:
        """Send nothing before `until`; never shortens a pause."""
        if until > max(now, self.cooling_until):
            self.cooling_until = until
            self.cooling_reason = reason

    def lock(self, now: float, rng: Random) -> None:
        """The key was refused: out until the plan changes or `AUTH_PAUSE` is over, and then one request at a time."""
        self.cool(now + later(AUTH_PAUSE, rng), "auth", now)
        self.on_trial = True

    def leave(self, now: float) -> None:
        """The one that tried the key ended and said nothing: the next may try."""
        self.cooling_until = now

    def accepted(self, sent: float, trial: bool) -> bool:
        """A request sent at `sent` was answered. True when that ended a trial."""
        if sent >= self._struck_at:
            self._strikes = 0
        if trial:
            self.unlock()
        return trial

    def unlock(self) -> None:
        """The key is good, or new."""
        if self.on_trial:
            self.on_trial = False
            self.cooling_until = 0.0
            self.cooling_reason = ""
