"""The demo's clouds, played without sockets: each limit that the file states binds in some regime."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from gateway.clouds.counts import Stats
from gateway.clouds.fleet import load
from gateway.clouds.model import Cloud
from gateway.clouds.tickets import Ask

FLEET = load(Path(__file__).parents[2] / "policies" / "clouds-demo.yaml")


def play(name: str, rate: float, ask: Ask, warm_up: float = 20.0, even: bool = False) -> Stats:
    """Offer `rate` requests a second for 90 s, rising to it during `warm_up`; refused ones go away."""
    cloud, rng, now = Cloud(FLEET.named[name], Random(11)), Random(12), 100.0
    end = now + 90.0
    while now < end:
        share = min(1.0, (now - 100.0 + 1.0) / warm_up) if warm_up else 1.0
        now += 1.0 / rate if even else rng.expovariate(rate * share)
        cloud.due(now)
        cloud.arrive(ask, now)
    return cloud.stats(now)


SHORT = Ask(prompt=20, max_tokens=15)
USUAL = Ask(prompt=40)
LONG = Ask(prompt=40, max_tokens=150)
WIDE = Ask(prompt=600, max_tokens=30)


@pytest.mark.parametrize(
    ("name", "limit", "rate", "ask", "warm_up"),
    [
        ("own-h20", "streams", 6.0, USUAL, 20),
        ("ark", "streams", 8.0, USUAL, 20),
        ("ark", "rpm", 12.0, SHORT, 20),
        ("ark", "tpm", 5.0, WIDE, 20),
        ("dashscope", "streams", 5.5, LONG, 20),
        ("dashscope", "rps", 8.0, SHORT, 20),
        ("dashscope", "ramp", 5.0, SHORT, 0),
        ("deepseek", "streams", 9.0, USUAL, 20),
        ("siliconflow", "rpm", 5.0, SHORT, 20),
        ("siliconflow", "tpm", 2.8, LONG, 20),
    ],
)
def test_every_limit_binds_in_some_regime(name: str, limit: str, rate: float, ask: Ask, warm_up: float) -> None:
    stats = play(name, rate, ask, warm_up=warm_up)
    assert stats.limits[limit]
    assert stats.overruns.get(limit, 0) > 0


@pytest.mark.parametrize("name", list(FLEET.named))
def test_a_calm_cloud_refuses_nobody(name: str) -> None:
    stats = play(name, 1.0, USUAL, even=True)
    assert stats.refused == {}
    assert stats.completed > 60


def test_deepseek_queues_in_silence_before_it_refuses() -> None:
    stats = play("deepseek", 9.0, USUAL)
    assert stats.peak["running"] == 18
    assert stats.peak["waiting"] == 6
