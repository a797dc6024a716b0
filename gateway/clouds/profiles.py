"""What one pretend cloud is like: frozen facts, read from a fleet file (see `fleet`).

Every quirk here was seen on a real cloud. Durations are seconds, probabilities are per request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gateway.core.nouns import Limits

DialectName = Literal[
    "deepseek", "dashscope", "ark", "tokenhub", "qianfan", "huawei", "siliconflow",
    "moonshot", "minimax", "zhipu", "vllm", "sglang", "openai",
]  # fmt: skip
Mode = Literal["", "crash", "refuse", "stall", "overload", "slow"]
"""What is wrong with a cloud at the moment, all of it at once.

crash     its port answers nobody and what was running is torn off
refuse    every new request gets a 500; what runs goes on
stall     tokens stop, sockets stay open; what was running goes on when the mode ends
overload  every new request is told that the platform is full, whatever the account may still have
slow      every law takes `drag` times as long
"""

Fate = Literal["stall", "cut", "error_frame", "error_first", "only_done", "no_resource"]
Chance = Literal["server", "overloaded", "content", "timeout"]
FATES: tuple[Fate, ...] = ("stall", "cut", "error_frame", "error_first", "only_done", "no_resource")
CHANCES: tuple[Chance, ...] = ("server", "overloaded", "content", "timeout")


@dataclass(frozen=True, slots=True)
class Laws:
    """How long things take: TPOT(B) = t0 + k·B; prefill is one FIFO of `prefill` prompt tokens per second."""

    t0: float = 0.030
    k: float = 0.0005
    prefill: float = 20_000.0
    net: float = 0.010
    jitter: float = 0.1
    """every draw is spread by this share to either side"""


@dataclass(frozen=True, slots=True)
class Answer:
    """How long answers are: lognormal by `median` and `sigma` (sigma 0: fixed), never above `most`."""

    median: float = 100.0
    sigma: float = 0.4
    most: int = 4096
    reasoning: float = 0.0
    """share of the answer's tokens that are thoughts"""


@dataclass(frozen=True, slots=True)
class Style:
    """How it says what it says."""

    reasoning: Literal["reasoning_content", "reasoning", "think", "both"] = "reasoning_content"
    usage: Literal["finish", "include", "always", "absent"] = "include"
    """in the finish chunk; in an empty-choices chunk when asked; in one always; never (streams and plain answers)"""
    cached: Literal["openai", "deepseek", "both"] = "openai"
    finish: Literal["stop", "normal"] = "stop"
    cumulative: bool = False
    keep_alive: float | None = None
    """seconds between signs of life before the first token: comments in a stream, blank lines before plain JSON"""
    stall_speaks: bool = False
    """keep-alives go on while a stream is stalled"""
    retry_after: Literal["none", "seconds", "absurd"] = "none"
    rate_headers: Literal["none", "qianfan", "modelscope"] = "none"
    tokens_per_event: int = 3


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong by chance. `fates` break an admitted stream, `chances` refuse one. Each sum is at most 1."""

    fates: tuple[tuple[Fate, float], ...] = ()
    chances: tuple[tuple[Chance, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """One pretend cloud. `port` 0 means any free one; `key` empty means: no key is asked for."""

    name: str
    port: int = 0
    dialect: DialectName = "openai"
    models: tuple[str, ...] = ("deepseek-r2",)
    key: str = ""
    limits: Limits = field(default=Limits())
    daily: int | None = None
    """requests in any 24 hours"""
    slots: int | None = None
    """sequences it computes at once; None: as many as come"""
    queue: int | None = 64
    """how many may wait for a slot; None: any number"""
    give_up: float | None = None
    """it closes a connection that has not begun to be computed after so many seconds"""
    prefix_cache: bool = False
    drag: float = 5.0
    fail: Mode = ""
    laws: Laws = Laws()
    answer: Answer = Answer()
    style: Style = Style()
    faults: Faults = Faults()


@dataclass(frozen=True, slots=True)
class Fleet:
    """All clouds of one file. `control` is the control port, 0 for any free one."""

    clouds: tuple[Profile, ...]
    control: int = 0
    seed: int = 0
    named: dict[str, Profile] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "named", {cloud.name: cloud for cloud in self.clouds})


HABITS: dict[DialectName, Style] = {
    "deepseek": Style(usage="finish", cached="both", keep_alive=3.0),
    "qianfan": Style(finish="normal", rate_headers="qianfan"),
    "moonshot": Style(retry_after="seconds"),
    "minimax": Style(reasoning="think", usage="always"),
    "zhipu": Style(usage="always"),
    "siliconflow": Style(usage="always"),
    "vllm": Style(reasoning="reasoning"),
}
"""The style of a dialect unless the fleet file says otherwise."""
