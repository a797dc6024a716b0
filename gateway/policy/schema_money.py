"""The part of the vocabulary that speaks of money: prices and budgets. See `schema`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gateway.policy.kinds import about, amount, name, share, text


class HoursWord(Struct, frozen=True):
    """Another price at certain hours. The first one that holds wins."""

    at: Annotated[
        list[Annotated[str, text("from-to, such as 09:00-12:00")]],
        about("From when to when; 22:00-06:00 crosses midnight and belongs to the day it begins on.", required=True),
    ] = field(default_factory=list)
    days: Annotated[
        list[Annotated[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], about("a day of the week")]],
        about("On which days of the week. Default: all."),
    ] = field(default_factory=list)
    not_on: Annotated[
        list[Annotated[str, text("a date, such as 2026-10-01")]],
        about("Days that do not count, such as public holidays."),
    ] = field(default_factory=list)
    input: Annotated[float, amount("Prompt tokens that were not in the cloud's cache.", required=True)] = 0.0
    cached_input: (
        Annotated[float, amount("Prompt tokens found in the cloud's cache. Default: like `input`.")] | None
    ) = None
    output: Annotated[float, amount("Answer tokens, reasoning included.", required=True)] = 0.0


class PriceWord(Struct, frozen=True):
    """Money per million tokens."""

    input: Annotated[float, amount("Prompt tokens that were not in the cloud's cache.", required=True)] = 0.0
    cached_input: (
        Annotated[float, amount("Prompt tokens found in the cloud's cache. Default: like `input`.")] | None
    ) = None
    output: Annotated[float, amount("Answer tokens, reasoning included.", required=True)] = 0.0
    currency: Annotated[str, name("Default: the document's `currency`.")] | None = None
    hours: Annotated[list[HoursWord], about("Other prices at certain hours: peak and off-peak.")] = field(
        default_factory=list
    )
    zone: Annotated[Literal["Asia/Shanghai", "UTC"], about("Whose clock the hours go by.")] = "Asia/Shanghai"


class BudgetWord(Struct, frozen=True):
    """Money that may be spent. Over it, what costs anything is refused with 429; answers under way end as usual."""

    amount: Annotated[
        float,
        Meta(
            description="How much, in the document's `currency`.",
            ge=0,
            le=10**9,
            extra={"scalar": "float", "required": True},
        ),
    ] = 0.0
    per: Annotated[Literal["hour", "day", "month"], about("In which time, by the clock of `zone`.")] = "month"
    warn: Annotated[float, share("From which share of it on answers carry a warning.")] = 0.8
    zone: Annotated[Literal["Asia/Shanghai", "UTC"], about("Whose days and months.")] = "Asia/Shanghai"
    slice: Annotated[
        float,
        Meta(
            description="The share of it that each replica holds at a time: so exact it is.",
            gt=0,
            le=0.1,
            extra={"scalar": "float"},
        ),
    ] = 0.01
