"""Money: who has spent his budget is refused, who has spent most of it is told.

What a request may cost is reserved when it comes in: its prompt, and what three of four answers take, at the price of
the dearest backend that may serve it. When it has ended it is charged what the usage record says, to the last digit
and in the period in which it came in. Whatever runs when a budget is spent ends as usual. What costs nothing
anywhere is never stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from gateway.core.estimate import Estimate
from gateway.core.money import BudgetView, Purse, dearest, estimate, picos, shown
from gateway.core.nouns import Price, Prices
from gateway.core.tariff import cost
from gateway.errors import BudgetSpent
from gateway.pipeline.live import Live
from gateway.pipeline.purser import Purser
from gateway.policy.compiled import Compiled
from gateway.service import Attempt, Call, Response, Service
from gateway.telemetry.usage import counted

HEADER = b"x-spillgate-budget"
LONGEST = 3600.0
"""The longest Retry-After, in seconds: budgets may be raised meanwhile."""

_SOON = 5.0
"""Seconds: Retry-After where what is left is only held by requests under way."""

_HANGING_UP = 0.25
"""Seconds until an attempt that was beaten has certainly ended. Usage records wait as long."""

_ONE = Decimal(1)
log = logging.getLogger("spillgate.budgets")


class Budgets:
    """Raises `BudgetSpent` (429, with Retry-After); otherwise reserves until the call has ended, and then charges.

    `prices` returns what backends charge now. A call that is cancelled costs what was sent until then.
    """

    def __init__(self, live: Live, purser: Purser, prices: Callable[[], Prices]) -> None:
        self._live = live
        self._purser = purser
        self._prices = prices
        self._compiled: Compiled | None = None
        self._held = Prices({})
        self._dear: dict[str, tuple[int, int]] = {}
        self._rates: dict[str, Decimal] = {}
        self._estimates: dict[str, Estimate] = {}
        self._late: dict[asyncio.TimerHandle, Callable[[], None]] = {}

    def __call__(self, call: Call, service: Service) -> Awaitable[Response]:
        budgets = self._live.index.budgets
        if not budgets or call.caller is None:
            return service(call)
        names = [name for name in (f"tenant:{call.caller.name}", f"key:{call.key}") if name in budgets]
        return self._spend(call, service, names) if names else service(call)

    def close(self) -> None:
        """Charge what is still to be charged."""
        for timer, charge in [*self._late.items()]:
            timer.cancel()
            charge()
        self._late.clear()

    async def _spend(self, call: Call, service: Service, names: list[str]) -> Response:
        if self._compiled is not self._live.compiled or self._held is not self._prices():
            self._look_up()
        budgets = self._live.index.budgets
        purses = [self._purser.purse(name, budgets[name]) for name in names]
        amount = self._expected(call)
        taken: list[Purse] = []
        try:
            for purse in purses:
                if amount and not await self._purser.take(purse, amount):
                    purse.refused += 1
                    raise self._refusal(purse, amount)
                taken.append(purse)
        except BaseException:
            for purse in taken:
                purse.settle(amount, 0)
            raise

        def leave(ended: Call) -> None:
            self._leave(ended, taken, amount)

        call.on_end.append(leave)
        response = await service(call)
        self._warn(response, taken)
        return response

    # --- before -------------------------------------------------------------------------------------------

    def _look_up(self) -> None:
        """What each model may cost, from the prices that hold now. Prices without a rate are left out."""
        compiled = self._live.compiled
        assert compiled is not None
        self._compiled, self._held = compiled, self._prices()
        self._rates = {currency: Decimal(repr(rate)) for currency, rate in compiled.rates.items()}
        self._rates[compiled.currency] = _ONE
        plan = compiled.plan
        self._dear = {}
        for model in plan.models.values():
            backends = [name for tier in plan.policies[model.policy].tiers for name in tier.backends]
            found = [
                price
                for name in backends
                if (id_ := plan.backends[name].serves.get(model.name)) is not None
                and (price := self._held.backends.get(name, {}).get(id_)) is not None
            ]
            self._dear[model.name] = dearest((p, self._rates[p.currency]) for p in found if p.currency in self._rates)
        self._estimates = {name: self._estimates.get(name) or Estimate() for name in plan.models}

    def _expected(self, call: Call) -> int:
        """What it may cost, in micros."""
        chat = call.chat
        assert chat is not None
        dear = self._dear.get(call.model, (0, 0))
        guess = self._estimates.get(call.model)
        if dear == (0, 0) or guess is None:
            return 0
        return estimate(guess.prompt(chat), guess.answer(chat), dear)

    def _refusal(self, purse: Purse, amount: int) -> BudgetSpent:
        compiled = self._live.compiled
        assert compiled is not None
        view, unit = purse.view(), compiled.currency
        whose = "Your budget" if purse.name.startswith("tenant:") else "The budget of this API key"
        allowed = f"{shown(view.amount)} {unit} per {view.per}"
        renews = moment(view.renews, view.east)
        if view.spent + amount > view.amount:
            wait = min(LONGEST, view.renews - self._purser.wall())
            what = f"is spent: {shown(view.spent)} of {allowed}, and this request may cost {shown(amount)}."
        else:
            wait = _SOON
            what = f"of {allowed} is taken up by requests under way, here or elsewhere."
        details = {
            "of": purse.name.partition(":")[0], "amount": shown(view.amount), "currency": unit, "per": view.per,
            "spent": shown(view.spent), "left": shown(view.left), "renews_at": renews,
        }  # fmt: skip
        message = f"{whose} {what} It renews at {renews}."
        return BudgetSpent(message, code="insufficient_quota", retry_after=max(1.0, wait), details={"budget": details})

    # --- after --------------------------------------------------------------------------------------------

    def _leave(self, call: Call, purses: list[Purse], reserved: int) -> None:
        """Charge, as soon as every attempt has ended: one that was beaten may still be hung up on."""

        def charge() -> None:
            self._charge(call.attempts, purses, reserved)

        if all(attempt.outcome is not None for attempt in call.attempts):
            charge()
            return

        def ring() -> None:
            del self._late[timer]
            charge()

        timer = asyncio.get_running_loop().call_later(_HANGING_UP, ring)
        self._late[timer] = charge

    def _charge(self, attempts: list[Attempt], purses: list[Purse], reserved: int) -> None:
        total, uncounted = 0, 0
        for attempt in attempts:
            usage, estimated = counted(attempt)
            price = attempt.lease.price
            if price is not None and price.currency in self._rates:
                total += self._picos(price, cost(price, usage))
            elif usage.prompt + usage.completion:
                uncounted += 1
            guess = self._estimates.get(attempt.lease.request.model)
            if guess is not None and not estimated and usage.completion:
                guess.learn(attempt.lease.request, usage)
        for purse in purses:
            purse.settle(reserved, total, uncounted)
            if purse.share >= purse.budget.warn and not purse.warned:
                purse.warned = True
                log.warning("%s has spent %.2f of its budget for %s", purse.name, purse.share, purse.period.name)

    def _picos(self, price: Price, amount: Decimal) -> int:
        rate = self._rates[price.currency]
        return picos(amount if rate is _ONE else amount * rate)

    def _warn(self, response: Response, purses: list[Purse]) -> None:
        share = max((purse.share for purse in purses if purse.share >= purse.budget.warn), default=None)
        if share is not None:
            response.headers = [*response.headers, (HEADER, b"warning; spent=%.2f" % share)]


def told(view: BudgetView, live: Live) -> dict[str, Any]:
    """How a budget stands as plain data, for `/status` and the admin API; amounts exact, as text."""
    return {
        "amount": shown(view.amount),
        "currency": live.compiled.currency if live.compiled else "",
        "per": view.per,
        "state": view.state,
        "spent": shown(view.spent),
        "left": shown(view.left),
        "reserved": shown(view.reserved),
        "renews_at": moment(view.renews, view.east),
        "refused": view.refused,
        "uncounted": view.uncounted,
    }


def moment(unix: float, east: int) -> str:
    """A time by the clock of a budget's zone, with its offset."""
    zone = timedelta(minutes=east)
    here = (datetime.fromtimestamp(unix, UTC) + zone).strftime("%Y-%m-%dT%H:%M:%S")
    hours, minutes = divmod(east, 60)
    return here + (f"+{hours:02d}:{minutes:02d}" if east else "Z")
