"""The facts the dispatcher thinks about. Frozen values; standard library only.

Times are seconds on one monotonic clock, durations are seconds, token counts are whole tokens. Nothing here
reads a clock, the environment or the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.core.ladder import Rung
from gateway.core.lesson import Learned
from gateway.core.rules import AffinityRules

LimitKind = Literal["streams", "rpm", "tpm", "rps", "tps", "ramp"]
LIMIT_KINDS: tuple[LimitKind, ...] = ("streams", "rpm", "tpm", "rps", "tps", "ramp")

Choose = Literal["least-loaded", "fastest", "cheapest", "weighted"]
ServiceClass = Literal["interactive", "standard", "batch"]
Learn = Literal["off", "within", "beyond"]
"""What may be learnt of an account's limits: nothing; lower ones than declared, and those not declared; any."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may have: each kind that is given must have room before a request is sent.

    streams  requests in flight (sent and not yet completely answered)
    rpm tpm  requests, tokens in any 60 seconds
    rps tps  requests, tokens in any second
    ramp     by how many the requests started in a second may exceed those of the second before
    """

    streams: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    rps: int | None = None
    tps: int | None = None
    ramp: int | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """Money per million tokens, in `currency`. `cached_input` None means the input price."""

    input: float
    output: float
    cached_input: float | None = None
    currency: str = "CNY"


@dataclass(frozen=True, slots=True)
class Account:
    """What a cloud limits: every backend that names this account shares these limits."""

    name: str
    limits: Limits
    learn: Learn = "off"


@dataclass(frozen=True, slots=True)
class Backend:
    """One deployment on one cloud. `serves` maps our model names to this cloud's ids."""

    name: str
    account: str
    serves: Mapping[str, str]
    price: Price | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants, understood. `deadline` is the latest useful dispatch time (absolute).

    `weight` is the tenant's share when tenants compete; what his latest request says holds. `affinity` are hashes of
    ever longer beginnings of the prompt; none: it may go anywhere.
    """

    id: str
    tenant: str
    model: str
    class_: ServiceClass
    prompt_bytes: int
    max_tokens: int | None
    stream: bool
    arrived: float
    deadline: float | None = None
    affinity: tuple[int, ...] = ()
    weight: float = 1.0


Condition = Callable[[Request], bool]
"""A compiled `when:`. It never raises: a condition that cannot be evaluated is False (and counted by its owner)."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One step of the spill order: used when no backend of a tier above has room."""

    backends: tuple[str, ...]
    choose: Choose = "least-loaded"
    weights: Mapping[str, float] = field(default_factory=dict)
    when: Condition | None = None
    when_text: str = ""


@dataclass(frozen=True, slots=True)
class QueueRules:
    """How long (seconds; 0: refuse), how many, how many bytes may wait; after how long one hears of his place."""

    max_wait: float = 20.0
    max_length: int = 1000
    max_bytes: int = 256 * 2**20
    comment_after: float | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_token` and `token_gap` are reset by tokens, never by bytes."""

    connect: float = 5.0
    first_token: float = 60.0
    token_gap: float = 30.0
    total: float = 1800.0


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Retries may be `budget` of successes plus `per_second`, kept for 10 s; `attempts` bounds one request."""

    budget: float = 0.1
    per_second: float = 1.0
    attempts: int = 4


@dataclass(frozen=True, slots=True)
class HedgeRules:
    """Second attempts may take `budget` of the tokens sent, `after` seconds without a first token (None: learnt)."""

    budget: float = 0.02
    after: float | None = None


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """Opens after `consecutive` failures, or when `share` of at least `samples` in `window` seconds failed.

    Closed again within `longest` of healing at the latest: a probe that fails costs one request a second attempt, an
    idle cloud costs its whole capacity.
    """

    consecutive: int = 5
    share: float = 0.5
    samples: int = 20
    window: float = 10.0
    open_for: float = 2.0
    longest: float = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is eligible, in which order, and what may happen when none has room."""

    name: str
    tiers: tuple[Tier, ...]
    queue: QueueRules = QueueRules()
    timeouts: Timeouts = Timeouts()
    retry: RetryRules = RetryRules()
    breaker: BreakerRules = BreakerRules()
    hedge: HedgeRules | None = None
    affinity: AffinityRules | None = None
    ladder: tuple[Rung, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A logical model: the name that apps ask for."""

    name: str
    policy: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """One compiled configuration document, as far as the dispatcher is concerned."""

    models: Mapping[str, Model]
    backends: Mapping[str, Backend]
    accounts: Mapping[str, Account]
    policies: Mapping[str, Policy]
    version: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the cloud counted them. `prompt` includes `cached`; `completion` includes `reasoning`."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


RefusalKind = Literal["rpm", "tpm", "burst", "concurrency", "quota"]
FailureKind = Literal["connect", "timeout", "stall", "server", "protocol"]


@dataclass(frozen=True, slots=True)
class Served:
    """The answer was delivered. `usage` None: the cloud told none; counted tokens stand."""

    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Limited:
    """The cloud refused for a limit of *our account*. `limit`: the number its text named, if any."""

    kind: RefusalKind
    retry_after: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Overloaded:
    """The *platform* has no capacity. Counts for the breaker."""

    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt broke. `retryable` False once something reached the client."""

    kind: FailureKind
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Unusable:
    """The key or the model id is wrong at this backend: take it out, tell the operator."""

    kind: Literal["auth", "not_found"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The cloud says the *request* is at fault. Says nothing about the backend; goes back to the client."""

    kind: Literal["content", "invalid"]


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The client left. Says nothing about the backend."""


@dataclass(frozen=True, slots=True)
class Beaten:
    """Another attempt at the same request brought its first token sooner, and we hung up. No fault of the backend."""


Outcome = Served | Limited | Overloaded | Failed | Unusable | Rejected | Abandoned | Beaten


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to one attempt on one backend; ends exactly once, through `settle`. `price` held at the granting."""

    id: int
    request: Request
    backend: str
    account: str
    model_id: str
    policy: str
    tier: int
    attempt: int
    granted: float
    reserved: int
    price: Price | None = None


RefuseReason = Literal["no-model", "no-backend", "queue-full", "deadline", "max-wait", "hopeless", "attempts"]


@dataclass(frozen=True, slots=True)
class Go:
    lease: Lease


@dataclass(frozen=True, slots=True)
class Wait:
    """Stay in the queue, at the latest until `until` (absolute). `position` 0 is next."""

    until: float
    position: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """`retry_after` in seconds, None when trying again would not help. `limit` names what had no room.

    `ill`: it was not a matter of room; no backend is fit to be asked. `wait`: what it would have waited, if known.
    """

    reason: RefuseReason
    retry_after: float | None = None
    limit: str = ""
    ill: bool = False
    wait: float | None = None


Verdict = Go | Wait | Refuse


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A change for `apply`: a new plan. Running leases keep theirs."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Advertised:
    """What a cloud's rate-limit headers said of an account. `reset` is in seconds from now, if told."""

    account: str
    kind: Literal["rpm", "tpm"]
    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class Shares:
    """This replica's part of each account's limits, as the shared store grants it; it holds at once.

    Accounts that are not named keep what they have; None takes the share away again (the replica is alone). A kind
    that a share leaves out is not shared. A share of 0 sends nothing.
    """

    accounts: Mapping[str, Limits | None]


@dataclass(frozen=True, slots=True)
class Prices:
    """What backends charge from now on, by backend and that cloud's model id. What is not named keeps its price."""

    backends: Mapping[str, Mapping[str, Price]]


Change = Reloaded | Advertised | Shares | Learned | Prices


@dataclass(frozen=True, slots=True)
class Demand:
    """What a replica uses and wants of one account, by kind: `want` = used + what waits for it."""

    used: Mapping[LimitKind, float]
    want: Mapping[LimitKind, float]


@dataclass(frozen=True, slots=True)
class Room:
    """How much of one limit is used. `whole`: the account's limit if `limit` is a share of it; `source`: who set it."""

    kind: LimitKind
    used: float
    limit: float
    whole: float | None = None
    source: str = ""
