"""Microseconds for one whole decision: offer, started, settle, due, with limits on and nothing waiting."""

from __future__ import annotations

import random
import time

from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import Account, Backend, Go, Limits, Model, Plan, Policy, Request, Served, Tier, Usage


def main(rounds: int = 100_000) -> None:
    names = ("one", "two", "three", "four", "five")
    plan = Plan(
        models={"r2": Model("r2", "p")},
        backends={name: Backend(name, name, {"r2": "cloud-r2"}) for name in names},
        accounts={name: Account(name, Limits(streams=10_000, rpm=10**8, tpm=10**12)) for name in names},
        policies={"p": Policy("p", (Tier(names[:3]), Tier(names[3:])))},
    )
    dispatcher = Dispatcher(plan, random.Random(1))
    outcome = Served(Usage(100, 200))
    began = time.perf_counter()
    for serial in range(rounds):
        now = serial * 0.001
        request = Request(str(serial), "t", "r2", "standard", 400, 512, True, now)
        verdict = dispatcher.offer(request, now)
        assert isinstance(verdict, Go)
        dispatcher.started(verdict.lease, now)
        dispatcher.settle(verdict.lease, outcome, now)
        dispatcher.due(now)
    each = (time.perf_counter() - began) / rounds
    print(f"decision: {each * 1e6:.1f} us for offer + started + settle + due, five backends, three limits each")


if __name__ == "__main__":
    main()
