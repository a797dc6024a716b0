"""`spillgate explain`: the decision for one request, offline, with an idle fleet or with parts of it assumed out."""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import msgspec

from gateway.cli.document import path_argument, read_or_report
from gateway.core.dispatcher import Dispatcher
from gateway.core.explain import Candidate
from gateway.core.nouns import Plan, Price, Request
from gateway.core.tariff import prices
from gateway.policy.diagnose import nearest
from gateway.wire.prefix import marks

BYTES_PER_TOKEN = 3.5


def arguments(parser: argparse.ArgumentParser) -> None:
    path_argument(parser)
    parser.add_argument("--model", help="the model that is asked for (default: the only one)")
    parser.add_argument("--class", dest="class_", choices=("interactive", "standard", "batch"), default="standard")
    parser.add_argument("--tenant", default="local", help="who asks (default %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=500, metavar="N", help="default %(default)s")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="the request's limit on the answer")
    parser.add_argument("--body", metavar="FILE", help="take the prompt from this request body")
    parser.add_argument("--plain", action="store_true", help="a request that is not streamed")
    parser.add_argument(
        "--out", action="append", default=[], metavar="BACKEND", help="assume it is out or full; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    compiled = read_or_report(args.document, as_json=args.json)
    if compiled is None:
        return 2
    plan = compiled.plan
    names = {alias: model.name for model in plan.models.values() for alias in (model.name, *model.aliases)}
    asked = args.model or (next(iter(plan.models)) if len(plan.models) == 1 else "")
    if asked not in names:
        return _unknown("model", asked, names)
    for out in args.out:
        if out not in plan.backends:
            return _unknown("backend", out, plan.backends)
    body = Path(args.body).read_bytes() if args.body else b""
    rules = plan.policies[plan.models[names[asked]].policy].affinity
    request = Request(
        id="explain",
        tenant=args.tenant,
        model=names[asked],
        class_=args.class_,
        prompt_bytes=len(body) or int(args.prompt_tokens * BYTES_PER_TOKEN),
        max_tokens=args.max_tokens,
        stream=not args.plain,
        arrived=0.0,
        affinity=marks(body, args.tenant, re.compile(rules.ignore.encode()) if rules.ignore else None) if rules else (),
    )
    dispatcher = Dispatcher(_without(plan, args.out), random.Random(0))
    dispatcher.apply(prices(compiled.tariffs, time.time()), 0.0)
    candidates = dispatcher.explain(request, 0.0)
    policy = plan.models[request.model].policy
    if args.json:
        shown = {"model": request.model, "policy": policy, "assumed_out": args.out}
        found = msgspec.json.encode({**shown, "candidates": candidates})  # what is unbounded becomes null
        print(msgspec.json.format(found, indent=2).decode())
    else:
        _print(request, policy, candidates, args.out)
    return 0 if any(candidate.chosen for candidate in candidates) else 1


def _price(price: Price | None) -> str:
    return f"  now {price.input:g} in, {price.output:g} out, {price.currency}" if price else ""


def _without(plan: Plan, out: Collection[str]) -> Plan:
    """The same plan, with some backends out of every tier."""
    policies = {
        name: replace(
            policy,
            tiers=tuple(
                replace(tier, backends=tuple(b for b in tier.backends if b not in out)) for tier in policy.tiers
            ),
        )
        for name, policy in plan.policies.items()
    }
    return replace(plan, policies=policies)


def _unknown(what: str, name: str, known: Collection[str]) -> int:
    print(f"there is no {what} '{name}' in this document: {nearest(name, known)}", file=sys.stderr)
    return 2


def _print(request: Request, policy: str, candidates: tuple[Candidate, ...], out: Collection[str]) -> None:
    kind = "streamed" if request.stream else "plain"
    print(f"{request.model}, policy {policy}: a {kind} {request.class_} request of tenant {request.tenant}")
    width = max((len(candidate.backend) for candidate in candidates), default=10)
    for candidate in candidates:
        mark = "▶" if candidate.chosen else " "
        state = (
            "takes it" if candidate.chosen else "; ".join(candidate.why_not) or "has room, but is not the first choice"
        )
        limits = (
            " ".join(f"{room.kind} {room.used:g}/{room.limit:g}" for room in candidate.room) or "no declared limits"
        )
        price = _price(candidate.price) + ("  home" if candidate.home else "")
        print(f" {mark} tier {candidate.tier + 1}  {candidate.backend:<{width}}  {state:<40}  {limits}{price}")
    for name in out:
        print(f"   assumed out: {name}")
    if not any(candidate.chosen for candidate in candidates):
        print("   nobody can take it now: it would wait, or be refused")
