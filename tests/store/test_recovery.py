"""How soon what was taken, lost or held by the dead is in use again; and a ramp that is shared. In virtual time."""

from __future__ import annotations

import pytest

from gateway.core.nouns import Limits
from gateway.testing.replicas import TERMS, started


@pytest.mark.parametrize("replicas", [1, 2, 5, 20])
def test_in_calm_every_demanded_stream_is_granted_within_two_seconds(replicas: int) -> None:
    world = started(Limits(streams=200), 1, replicas, hold=1e6)
    for replica in world.living():
        replica.wish = 0
    world.living()[0].wish = 1000
    world.run(2.0)
    assert world.cloud.running + 5 * replicas >= 198


@pytest.mark.parametrize("replicas", [1, 2, 5])
def test_crashed_replicas_slots_are_back_a_lease_after_the_last_of_their_streams_may_have_ended(replicas: int) -> None:
    world = started(Limits(streams=200), 3, replicas + 1, hold=1e6)
    heirs, victim = world.living()[1:], world.living()[0]
    victim.wish = 100
    world.run(5.0)
    assert len(victim.ends) >= 30
    world.crash(victim)
    for replica in heirs:
        replica.wish = 200
    world.run(TERMS.ghost + TERMS.ttl + 0.6)
    assert world.cloud.running >= 198


@pytest.mark.parametrize("seed", range(3))
def test_a_minute_after_any_trouble_at_most_one_percent_of_a_limit_is_stranded(seed: int) -> None:
    world = started(Limits(streams=400), seed, 5, hold=2.0)
    for replica in world.living():
        replica.wish = 60
    world.lossy = 0.3
    world.run(5.0)
    world.crash(world.living()[0])
    world.flush()
    world.living()[0].frozen_until = world.now + 8.0
    world.living()[1].cut = True
    world.run(10.0)
    world.join()
    world.living()[1].cut, world.lossy = False, 0.0
    world.run(60.0)
    world.hold = 1e6
    for replica in world.living():
        replica.wish = 1000
    world.run(8.0)  # what was running ends
    assert world.cloud.running >= 396


@pytest.mark.parametrize("seed", range(4))
def test_replicas_that_start_in_bursts_keep_a_ramp_together(seed: int) -> None:
    world = started(Limits(streams=200, ramp=9), seed, 3, hold=0.3)
    for _ in range(60):
        for replica in world.living():
            replica.wish = world.rng.choice((0, 0, 30))
        world.run(world.rng.choice((0.2, 0.5, 0.9)))
    assert world.cloud.most["ramp"] >= 7, "it is used"
