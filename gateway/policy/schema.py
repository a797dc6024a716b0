"""The vocabulary of the configuration document, whole and closed.

These structs are the one description: the reader walks a document by them, the JSON Schema for editors is generated
from them, and their defaults are the defaults. Every field has one, also the required ones (marked so), because
a document is read to its end even when parts of it are missing: all errors are reported at once.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from gateway.policy.allowing import AllowanceWord, LimitsWord
from gateway.policy.cacheword import CacheWord
from gateway.policy.kinds import about, amount, count, duration, limit, moment, name, positive, share, text
from gateway.policy.schema_money import BudgetWord, PriceWord
from gateway.policy.telling import TelemetryWord

MOST_NAMED = 1000
"""So many models, backends, policies or tenants at most."""


class ModelWord(Struct, frozen=True):
    """A model as apps ask for it."""

    aliases: Annotated[list[Annotated[str, name("another name")]], about("Other names for the same model.")] = field(
        default_factory=list
    )
    policy: Annotated[
        str, name("The policy that decides where its requests go. May be left out when there is only one.")
    ] = ""


class BackendWord(Struct, frozen=True):
    """One deployment on one cloud, or an engine of your own."""

    preset: Annotated[
        str,
        name(
            "What kind of cloud it is: address, authentication and the meaning of its refusals.",
            required=True,
            unless="driver",
        ),
    ] = ""
    driver: Annotated[
        Literal["http", "litellm"],
        about(
            "How it is talked to: directly, or through litellm, for clouds that are not OpenAI-compatible (then "
            "without `preset`)."
        ),
    ] = "http"
    base_url: Annotated[
        str, text("Address of its OpenAI-compatible API, without /chat/completions. Default: the preset's.")
    ] = ""
    serves: Annotated[
        dict[Annotated[str, name("our name")], Annotated[str, text("this cloud's id")]],
        about(
            "Which models it has: our name for the model, and this cloud's id for it; with `driver: litellm` "
            "PROVIDER/ID, as litellm spells it.",
            required=True,
        ),
    ] = field(default_factory=dict)
    key: Annotated[str, text("API key, as a reference such as ${ARK_API_KEY}.", secret=True)] = ""
    account: Annotated[
        str, name("Backends that name the same account share its limits. Default: the backend's own name.")
    ] = ""
    limits: Annotated[LimitsWord, about("What the cloud allows this account.")] | None = None
    learn: Annotated[
        Literal["off", "within", "beyond"],
        about(
            "What to learn of the account's limits from how the cloud bears the load: nothing; lower ones than "
            "declared, and those that are not declared; or also higher ones, taking what is declared for a first guess."
        ),
    ] = "within"
    price: Annotated[PriceWord, about("What it costs, per million tokens.")] | None = None
    labels: Annotated[
        dict[Annotated[str, name("label")], Annotated[str, text("value")]], about("Words of your own about it.")
    ] = field(default_factory=dict)
    headers: Annotated[
        dict[Annotated[str, name("header")], Annotated[str, text("value", secret=True)]],
        about("Headers to send with every request to it."),
    ] = field(default_factory=dict)
    trace_context: Annotated[
        Literal["auto", "send", "hide"],
        about(
            "Whether it is told which trace a request belongs to (W3C `traceparent`). `auto`: engines of your own are, "
            "public clouds are not."
        ),
    ] = "auto"

    def __repr__(self) -> str:
        return f"<backend, preset {self.preset!r}, driver {self.driver!r}>"


class TierWord(Struct, frozen=True):
    """One step of the spill order."""

    backends: Annotated[list[Annotated[str, name("a backend")]], about("The backends of this tier.", required=True)] = (
        field(default_factory=list)
    )
    choose: Annotated[
        Literal["least-loaded", "fastest", "cheapest", "weighted"], about("Which of those that have room.")
    ] = "least-loaded"
    weights: Annotated[
        dict[Annotated[str, name("a backend")], Annotated[float, positive("its share")]],
        about("For `choose: weighted`: the share of each backend."),
    ] = field(default_factory=dict)
    when: Annotated[
        str, text('A CEL condition; the tier is skipped when it is false, e.g. request.class == "interactive".')
    ] = ""


class QueueWord(Struct, frozen=True):
    """Who may wait when no backend has room."""

    max_wait: Annotated[float, duration("How long at most. 0: never wait, refuse at once.")] = 20.0
    max_length: Annotated[int, count("How many at most.", least=0)] = 1000
    max_bytes: Annotated[
        int,
        Meta(
            description="How many bytes of prompts they may hold in memory.",
            ge=1024,
            le=2**40,
            extra={"scalar": "size"},
        ),
    ] = 256 * 2**20
    comment_after: (
        Annotated[
            float,
            duration(
                "Who waits for a stream so long is told his place and expected wait in SSE comments; it commits the "
                "status 200. Default: never.",
                above=0,
            ),
        ]
        | None
    ) = None


class RungWord(Struct, frozen=True):
    """One step of a ladder: what requests give up from some pressure on. Steps add up."""

    at: Annotated[
        float,
        positive(
            "The pressure from which it holds: the use of what the backends may take, 1 when all is taken, and above "
            "that 1 + expected wait ÷ `max_wait`.",
            required=True,
        ),
    ] = 0.0
    classes: Annotated[
        list[Annotated[Literal["interactive", "standard", "batch"], about("a class")]],
        about("Whose requests. Default: of all classes."),
    ] = field(default_factory=list)
    max_tokens: Annotated[int, limit("Answers are at most so long; never raised.")] | None = None
    reasoning_effort: (
        Annotated[
            Literal["low", "medium", "high"],
            about("Reasoning is at most of this effort, where the cloud knows the word; never raised."),
        ]
        | None
    ) = None
    thinking: (
        Annotated[Literal["off"], about("The model answers without thinking, where the cloud has a switch.")] | None
    ) = None
    model: Annotated[str, name("Another model of this document answers, if the tenant may use it.")] = ""


class RetryWord(Struct, frozen=True):
    """How often a failed attempt may be repeated elsewhere."""

    budget: Annotated[float, share("Retries as a share of recent successes: 0.1 is one for ten.")] = 0.1
    per_second: Annotated[float, amount("Retries per second that are always allowed.")] = 1.0
    attempts: Annotated[int, count("Attempts for one request, the first included.", least=1, most=20)] = 4


class BreakerWord(Struct, frozen=True):
    """When a backend that fails is left alone, and for how long."""

    consecutive: Annotated[int, count("Opens after this many failures in a row.", least=1)] = 5
    share: Annotated[float, share("Opens when this share of recent attempts failed.")] = 0.5
    samples: Annotated[int, count("The share is looked at from this many attempts on.", least=1)] = 20
    window: Annotated[float, duration("How far back `share` looks.", above=0)] = 10.0
    open_for: Annotated[float, duration("First pause before one request may try again.", above=0)] = 2.0
    longest: Annotated[float, duration("Longest pause; they double while trying fails.", above=0)] = 10.0


class HedgeWord(Struct, frozen=True):
    """A second attempt beside one that is slow to its first token; whichever brings it first answers. Streams only."""

    budget: Annotated[float, share("Tokens sent twice, as a share of the tokens that this policy sends.")] = 0.02
    after: (
        Annotated[
            float,
            duration(
                "So long after the first was sent. Default: what 95 of 100 first tokens of its backend take at most.",
                above=0,
            ),
        ]
        | None
    ) = None


class AffinityWord(Struct, frozen=True):
    """Prompts that begin alike go to the same backend of a tier, whose cache then has the beginning. A text in its
    place is `by` alone."""

    SHORT: ClassVar[str] = "by"

    by: Annotated[Literal["none", "prefix"], about("`prefix`: by the beginning of the prompt, within one tenant.")] = (
        "prefix"
    )
    keep: Annotated[float, duration("How long a backend is taken to remember, at least.", above=0)] = 1200.0
    bound: Annotated[
        float,
        Meta(
            description="A backend with more than so many times its part of the load is left out; one that is less "
            "than a quarter used never is.",
            ge=1,
            le=100,
            extra={"scalar": "float"},
        ),
    ] = 1.25
    ignore: Annotated[
        list[Annotated[str, text("dates, ids, or a regular expression")]],
        about("What changes from request to request within the first 4 KiB of the prompt. Default: dates and ids."),
    ] = field(default_factory=lambda: ["dates", "ids"])


class PolicyWord(Struct, frozen=True):
    """Where requests may go, in which order, and what may happen when nothing has room."""

    tiers: Annotated[
        list[TierWord], about("Spill order: a tier is used when no backend of a tier above has room.", required=True)
    ] = field(default_factory=list)
    queue: Annotated[QueueWord, about("Waiting.")] = field(default_factory=QueueWord)
    degrade: Annotated[
        list[RungWord], about("What requests give up when there is too little for all, step by step.")
    ] = field(default_factory=list)
    connect_timeout: Annotated[float, duration("To open a connection.", above=0)] = 5.0
    first_token_timeout: Annotated[
        float, duration("Until the first token of the answer; keep-alive bytes do not count.", above=0)
    ] = 60.0
    token_gap_timeout: Annotated[float, duration("Between two tokens.", above=0)] = 30.0
    total_timeout: Annotated[float, duration("For a whole answer.", above=0)] = 1800.0
    retry: Annotated[RetryWord, about("Repeating what failed.")] = field(default_factory=RetryWord)
    breaker: Annotated[BreakerWord, about("Leaving alone what fails.")] = field(default_factory=BreakerWord)
    hedge: Annotated[HedgeWord, about("Asking twice. Left out: never.")] | None = None
    affinity: Annotated[AffinityWord, about("Keeping prompts near what clouds remember. Left out: not.")] | None = None
    cache: Annotated[CacheWord, about("Giving answers again. Left out: never.")] | None = None


class KeyWord(Struct, frozen=True):
    """One key of a tenant. A text in its place is `key` alone."""

    SHORT: ClassVar[str] = "key"

    key: Annotated[
        str, text("sha256:<64 hex digits> of the key, or a reference such as ${ACME_KEY}.", required=True, secret=True)
    ] = ""
    name: Annotated[str, name("What people call it. Its id is the beginning of its digest in any case.")] = ""
    expires: (
        Annotated[float, moment("From when on it opens nothing: a date (its beginning, UTC), or a time with offset.")]
        | None
    ) = None
    budget: Annotated[BudgetWord, about("What may be spent with it, within what the tenant may spend.")] | None = None
    limits: Annotated[AllowanceWord, about("What may be used with it, within what the tenant may.")] | None = None

    def __repr__(self) -> str:
        return f"<key {self.name!r}>"


class TenantWord(Struct, frozen=True):
    """Somebody who may ask."""

    keys: Annotated[
        list[KeyWord], about("The keys it may show; several, so that they can be changed.", required=True)
    ] = field(default_factory=list)
    class_: Annotated[Literal["interactive", "standard", "batch"], about("How urgent its requests are.")] = field(
        default="standard", name="class"
    )
    weight: Annotated[float, positive("Its share when tenants compete, against the weights of the others.")] = 1.0
    limits: Annotated[AllowanceWord, about("What it may use.")] | None = None
    budget: Annotated[BudgetWord, about("What it may spend.")] | None = None
    models: Annotated[
        list[Annotated[str, name("a model")]],
        about("The models it may ask for, by name or alias; others do not exist for it. Default: all."),
    ] = field(default_factory=list)
    user_id: Annotated[
        str,
        name(
            "Who it is for clouds that tell users apart (DeepSeek: cache, scheduling, content checks). "
            "Default: a hash of its name."
        ),
    ] = ""
    status: Annotated[Literal["active", "disabled"], about("`disabled`: all its requests are refused.")] = "active"

    def __repr__(self) -> str:
        return f"<tenant, {len(self.keys)} keys>"


class ServerWord(Struct, frozen=True):
    """The gateway's own door."""

    max_body: Annotated[
        int,
        Meta(description="Largest request body.", ge=1024, le=2**30, extra={"scalar": "size"}),
    ] = 16 * 2**20


class UsageWord(Struct, frozen=True):
    """Where a record of every request goes. What is left out is not written."""

    file: Annotated[str, text("A file to append to, one JSON object per line.")] = ""
    stream: Annotated[
        int, count("To the Redis stream spillgate:usage, which keeps about so many. 0: not.", least=0, most=10**9)
    ] = 0


class Document(Struct, frozen=True):
    """Configuration of a Spillgate: which models there are, where they run, and who may use them."""

    models: Annotated[
        dict[Annotated[str, name("model")], ModelWord], about("The models that apps may ask for.", required=True)
    ] = field(default_factory=dict)
    backends: Annotated[
        dict[Annotated[str, name("backend")], BackendWord], about("Where the models run.", required=True)
    ] = field(default_factory=dict)
    policies: Annotated[
        dict[Annotated[str, name("policy")], PolicyWord], about("How requests are spread.", required=True)
    ] = field(default_factory=dict)
    tenants: Annotated[
        dict[Annotated[str, name("tenant")], TenantWord],
        about("Who may ask. Without tenants only this machine may, with any key."),
    ] = field(default_factory=dict)
    currency: Annotated[str, name("The currency of prices and budgets.")] = "CNY"
    rates: Annotated[
        dict[Annotated[str, name("another currency")], Annotated[float, positive("in `currency`")]],
        about("What one unit of another currency is worth in `currency`: budgets count prices in it by that."),
    ] = field(default_factory=dict)
    server: Annotated[ServerWord, about("The gateway's own door.")] = field(default_factory=ServerWord)
    usage: Annotated[UsageWord, about("A record of every request: who, where, tokens, cost.")] | None = None
    telemetry: Annotated[TelemetryWord, about("Traces and the log.")] = field(default_factory=TelemetryWord)
