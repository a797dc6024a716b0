"""`spillgate explain`: the decision for one request, offline, with an idle fleet or with parts of it assumed out; or,
with `--live`, by a running gateway at this moment."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import msgspec

from gateway.cli import live
from gateway.cli.document import read_or_report
from gateway.core.dispatcher import Dispatcher
from gateway.core.explain import Candidate
from gateway.core.ladder import Form, Rung, form_at
from gateway.core.nouns import Plan, Price, Request, ServiceClass
from gateway.core.tariff import prices
from gateway.policy.compiled import Compiled
from gateway.policy.diagnose import nearest
from gateway.upstream import presets
from gateway.wire.easing import Easing
from gateway.wire.prefix import marks, pattern

BYTES_PER_TOKEN = 3.5


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("document", type=Path, nargs="?", metavar="FILE_OR_FOLDER", help="the configuration document")
    live.argument(parser)
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
    parser.add_argument(
        "--pressure", type=float, default=0.0, metavar="P", help="rehearse the ladder (`degrade`) at this pressure"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    if args.live or args.document is None:
        return live.explain(args, _print)
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
    ladder = plan.policies[plan.models[names[asked]].policy].ladder
    form = form_at(ladder, args.class_, args.pressure)
    request = _request(args, form, plan, names[asked], body)
    dispatcher = Dispatcher(_without(plan, args.out), random.Random(0))
    dispatcher.apply(prices(compiled.tariffs, time.time()), 0.0)
    candidates = dispatcher.explain(request, 0.0)
    policy = plan.models[request.model].policy
    if args.json:
        shown = {
            "model": request.model,
            "policy": policy,
            "assumed_out": args.out,
            "gives_up": msgspec.to_builtins(form),
        }
        found = msgspec.json.encode({**shown, "candidates": candidates})  # what is unbounded becomes null
        print(msgspec.json.format(found, indent=2).decode())
    else:
        _print(request, policy, candidates, args.out)
        _print_ladder(args.pressure, ladder, args.class_)
        if lacking := _without_switch(compiled, form, candidates):
            print(f"   no known switch for its reasoning, so it is asked as it came, at: {', '.join(lacking)}")
    return 0 if any(candidate.chosen for candidate in candidates) else 1


def _price(price: Price | None) -> str:
    return f"  now {price.input:g} in, {price.output:g} out, {price.currency}" if price else ""


def _request(args: argparse.Namespace, form: Form, plan: Plan, asked: str, body: bytes) -> Request:
    """The request as it is offered: with what its form leaves of it."""
    named = [limit for limit in (args.max_tokens, form.max_tokens) if limit is not None]
    model = form.model or asked
    rules = plan.policies[plan.models[model].policy].affinity
    return Request(
        id="explain",
        tenant=args.tenant,
        model=model,
        class_=args.class_,
        prompt_bytes=len(body) or int(args.prompt_tokens * BYTES_PER_TOKEN),
        max_tokens=min(named, default=None),
        stream=not args.plain,
        arrived=0.0,
        affinity=marks(body, args.tenant, pattern(rules.ignore)) if rules else (),
    )


def _print_ladder(pressure: float, ladder: tuple[Rung, ...], class_: ServiceClass) -> None:
    if not ladder:
        return
    held = _gives_up(form_at(ladder, class_, pressure))
    print(f"   at a pressure of {pressure:g} a {class_} request gives up: {held or 'nothing'}")
    for rung in ladder:
        if rung.at > pressure and (not rung.classes or class_ in rung.classes):
            print(f"   from {rung.at:g} on: {_gives_up(form_at(ladder, class_, rung.at))}")


def _without_switch(compiled: Compiled, form: Form, candidates: tuple[Candidate, ...]) -> list[str]:
    """The backends that could take the request, and whose clouds know none of what its form asks of reasoning."""
    if not (form.thinking_off or form.effort):
        return []
    easing = Easing(form, "", None, {})
    dialects = {
        c.backend: presets.load(compiled.connections[c.backend].preset).dialect for c in candidates if c.eligible
    }
    return [name for name, dialect in dialects.items() if not easing.fields(dialect)[1]]


def _gives_up(form: Form) -> str:
    words = [f"model {form.model}"] if form.model else []
    words += [] if form.max_tokens is None else [f"max_tokens {form.max_tokens}"]
    words += ["thinking off"] if form.thinking_off else []
    words += [f"reasoning_effort {form.effort}"] if form.effort else []
    return ", ".join(words)


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
