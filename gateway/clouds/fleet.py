"""Fleet files: YAML with a closed vocabulary, checked as a whole, to `Fleet`; and changes to one cloud at run time.

    control: 9100               # control port; 0: any free one
    seed: 7
    clouds:
      ark:
        port: 9102
        dialect: ark            # how it refuses, and its habits unless `style` says otherwise
        models: [deepseek-r2]
        key: sk-ark
        limits: {streams: 24, rpm: 900, tpm: 90000}          # also rps, tps, ramp, daily
        slots: 16
        queue: 64               # or unbounded
        laws: {t0: 32ms, k: 0.4ms, prefill: 20000, net: 10ms, jitter: 0.1}
        answer: {median: 110, sigma: 0.3, most: 400, reasoning: 0.4}
        style: {keep_alive: 3s, tokens_per_event: 3}
        faults: {stall: 0.01, server: 0.02}

The same words, except `port` and `dialect`, are understood by `changed`, together with `fail` and `drag`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

import yaml

from gateway.clouds import profiles
from gateway.clouds.profiles import CHANCES, FATES, HABITS, Answer, Faults, Fleet, Laws, Profile, Style
from gateway.core.nouns import LIMIT_KINDS, Limits
from gateway.errors import SpillgateError, near_miss

Reader = Callable[[object], object]
Vocabulary = Mapping[str, Reader]


class FleetError(SpillgateError):
    """A fleet file or a change is wrong. `problems` holds every one found, each with its path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# --- single values: each returns what it read or raises ValueError saying what it expected ------------------


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError("a whole number of at least 1")


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("a whole number, 0 or more")


def _port(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65_535:
        return value
    raise ValueError("a port number, or 0 for any free one")


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    raise ValueError("a number, 0 or more")


def _positive(value: object) -> float:
    try:
        number = _number(value)
    except ValueError:
        number = 0.0
    if number > 0:
        return number
    raise ValueError("a number above 0")


def _share(value: object) -> float:
    number = _number(value)
    if number <= 1:
        return number
    raise ValueError("a share between 0 and 1")


def _seconds(value: object) -> float:
    if isinstance(value, str):
        for unit, size in (("ms", 1e-3), ("s", 1.0), ("m", 60.0)):
            if value.endswith(unit):
                try:
                    return _number(float(value.removesuffix(unit))) * size
                except ValueError:
                    break
        raise ValueError("a duration such as 30ms, 2s or 1m")
    return _number(value)


def _pause(value: object) -> float:
    seconds = _seconds(value)
    if seconds > 0:
        return seconds
    raise ValueError("a duration above 0 such as 30ms, 2s or 1m")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("a text")


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("a list of at least one name")


def _room(value: object) -> int | None:
    return None if value == "unbounded" else _whole(value)


def _one_of(*words: str) -> Reader:
    def read(value: object) -> object:
        if value in words:
            return value
        near = near_miss(str(value), words)
        raise ValueError(f"one of {', '.join(word or '(empty)' for word in words)}" + (f" ({near}?)" if near else ""))

    return read


def _or_none(read: Reader) -> Reader:
    return lambda value: None if value is None else read(value)


# --- the vocabulary ---------------------------------------------------------------------------------------

_LIMITS: Vocabulary = {kind: _or_none(_count) for kind in (*LIMIT_KINDS, "daily")}
_LAWS: Vocabulary = {"t0": _pause, "k": _seconds, "prefill": _positive, "net": _seconds, "jitter": _share}
_ANSWER: Vocabulary = {"median": _positive, "sigma": _number, "most": _count, "reasoning": _share}
_STYLE: Vocabulary = {
    "reasoning": _one_of("reasoning_content", "reasoning", "think", "both"),
    "usage": _one_of("finish", "include", "always", "absent"),
    "cached": _one_of("openai", "deepseek", "both"),
    "finish": _one_of("stop", "normal"),
    "cumulative": _flag,
    "keep_alive": _or_none(_pause),
    "stall_speaks": _flag,
    "retry_after": _one_of("none", "seconds", "absurd"),
    "rate_headers": _one_of("none", "qianfan", "modelscope"),
    "tokens_per_event": _count,
}
_FAULTS: Vocabulary = dict.fromkeys((*FATES, *CHANCES), _share)
_LIVE: Vocabulary = {
    "models": _names,
    "key": _text,
    "slots": _or_none(_count),
    "queue": _room,
    "give_up": _or_none(_pause),
    "prefix_cache": _flag,
    "drag": _positive,
    "fail": lambda value: _one_of(*get_args(profiles.Mode))(value or ""),
}
_FIXED: Vocabulary = {"port": _port, "dialect": _one_of(*get_args(profiles.DialectName))}
_SECTIONS: Mapping[str, Vocabulary] = {
    "limits": _LIMITS,
    "laws": _LAWS,
    "answer": _ANSWER,
    "style": _STYLE,
    "faults": _FAULTS,
}
_TOP: Vocabulary = {"control": _port, "seed": _whole}


def _read(
    value: object, words: Vocabulary, path: str, problems: list[str], also: tuple[str, ...] = ()
) -> dict[str, object]:
    """Every known word of a mapping, read. What is wrong goes to `problems` with its path."""
    if not isinstance(value, Mapping):
        problems.append(f"{path or 'the file'}: expected a mapping")
        return {}
    found: dict[str, object] = {}
    for word, given in value.items():
        here = f"{path}.{word}" if path else str(word)
        if word in words:
            try:
                found[word] = words[word](given)
            except ValueError as error:
                problems.append(f"{here}: expected {error}, not {given!r}")
        elif word not in also:
            near = near_miss(str(word), [*words, *also])
            problems.append(f"{here}: unknown" + (f"; did you mean {near}?" if near else ""))
    return found


def _faults(odds: Mapping[str, object], before: Faults, path: str, problems: list[str]) -> Faults:
    shares: dict[str, float] = {**dict(before.fates), **dict(before.chances), **cast("Mapping[str, float]", odds)}
    problems.extend(
        f"{path}: {', '.join(names)} exclude each other, their shares must not exceed 1 together"
        for names in (FATES, CHANCES)
        if sum(shares.get(name, 0.0) for name in names) > 1.0
    )
    return Faults(
        fates=tuple((name, shares[name]) for name in FATES if shares.get(name)),
        chances=tuple((name, shares[name]) for name in CHANCES if shares.get(name)),
    )


def _apply(base: Profile, value: object, words: Vocabulary, path: str, problems: list[str]) -> Profile:
    """`base` with everything that `value` says. A section changes only the words it names."""
    flat = _read(value, words, path, problems, tuple(_SECTIONS))
    if not isinstance(value, Mapping):
        return base
    dialect = cast("profiles.DialectName", flat.get("dialect", base.dialect))
    if dialect != base.dialect:
        base = replace(base, style=HABITS.get(dialect, Style()))
    base = replace(base, **flat)  # type: ignore[arg-type]
    for name, section in _SECTIONS.items():
        if name not in value:
            continue
        here = f"{path}.{name}" if path else name
        said = _read(value[name], section, here, problems)
        if name == "faults":
            base = replace(base, faults=_faults(said, base.faults, here, problems))
            continue
        if name == "limits" and "daily" in said:
            base = replace(base, daily=said.pop("daily"))  # type: ignore[arg-type]
        part: Limits | Laws | Answer | Style = getattr(base, name)
        base = replace(base, **{name: replace(part, **said)})  # type: ignore[arg-type]
    return base


def changed(profile: Profile, change: object) -> Profile:
    """The cloud after a change at run time. Raises `FleetError`; then nothing is to be changed.

    `{"fail": null}` ends whatever is wrong; `{"limits": {"streams": null}}` lifts a limit.
    """
    problems: list[str] = []
    after = _apply(profile, change, _LIVE, "", problems)
    if problems:
        raise FleetError(problems)
    return after


def parse(document: object) -> Fleet:
    """A fleet from what YAML or JSON gave. Raises `FleetError` with every problem found."""
    problems: list[str] = []
    top = _read(document, _TOP, "", problems, ("clouds",))
    listed = document.get("clouds") if isinstance(document, Mapping) else None
    if not isinstance(listed, Mapping) or not listed:
        raise FleetError([*problems, "clouds: expected a mapping of at least one cloud"])
    clouds = [
        _apply(Profile(str(name)), {} if body is None else body, {**_LIVE, **_FIXED}, f"clouds.{name}", problems)
        for name, body in listed.items()
    ]
    ports = [port for port in (top.get("control", 0), *(cloud.port for cloud in clouds)) if port]
    if len(ports) != len(set(ports)):
        problems.append("port: two clouds, or one and the control port, have the same")
    if problems:
        raise FleetError(problems)
    return Fleet(tuple(clouds), **top)  # type: ignore[arg-type]


def load(path: Path) -> Fleet:
    """Read a fleet file. Raises `FleetError` naming the file."""
    try:
        return parse(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise FleetError([f"{path}: cannot be read ({error})"]) from None
    except yaml.YAMLError as error:
        raise FleetError([f"{path}: not YAML: {error}"]) from None
    except FleetError as error:
        raise FleetError([f"{path}: {problem}" for problem in error.problems]) from None
