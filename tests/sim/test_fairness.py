"""Demand by tenants, what each was entitled to, and how even a run was."""

from __future__ import annotations

from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clouds.profiles import Fleet, Profile
from gateway.core.nouns import Limits
from gateway.sim.clairvoyant import replay
from gateway.sim.demand import Need
from gateway.sim.fairness import entitlements, evenness, jain, parts
from gateway.sim.rehearse import plan_of, rehearse
from gateway.sim.score import Record, Terms
from gateway.sim.tenants import Client, Lengths, arrivals, read

TERMS = Terms(5.0, 2.0)
SHORT = Lengths(100, 200, 300)


@pytest.mark.parametrize(
    ("asked", "weights", "total", "given"),
    [
        ({"a": 10, "b": 10}, {}, 10, {"a": 5, "b": 5}),
        ({"a": 2, "b": 10}, {}, 10, {"a": 2, "b": 8}),
        ({"a": 10, "b": 10}, {"a": 3}, 8, {"a": 6, "b": 2}),
        ({"a": 1, "b": 4, "c": 100}, {"b": 2}, 12, {"a": 1, "b": 4, "c": 7}),
        ({"a": 1, "b": 2}, {}, 9, {"a": 1, "b": 2}),
    ],
)
def test_water_fills_up_to_what_each_asked_for(
    asked: dict[str, float], weights: dict[str, float], total: float, given: dict[str, float]
) -> None:
    assert entitlements(asked, weights, total) == given


@given(st.dictionaries(st.text("abc", min_size=1), st.floats(0.1, 1e6), min_size=1), st.floats(0.1, 1e7))
def test_entitlements_use_all_there_is_and_nobody_gets_more_than_he_asked_for(
    asked: dict[str, float], total: float
) -> None:
    found = entitlements(asked, {}, total)
    assert sum(found.values()) == pytest.approx(min(total, sum(asked.values())))
    assert all(found[name] <= asked[name] * (1 + 1e-9) for name in asked)
    least = min(found.values())
    assert all(found[name] >= min(asked[name], least) * (1 - 1e-9) for name in asked)


def test_jains_index_is_one_when_even_and_falls_to_one_in_n() -> None:
    assert jain([0.7, 0.7, 0.7]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)


def test_a_part_says_what_a_tenant_asked_for_and_had() -> None:
    needs = [Need(n, float(n), 100, 50, tenant="a") for n in range(3)]
    records = [
        Record(needs[0], "served", 9.0, first=1.0, tokens=50, attempts=1),
        Record(needs[1], "served", 9.0, first=8.5, queued=5.0, tokens=50, attempts=1),
        Record(needs[2], "refused", 2.0, reason="hopeless"),
        Record(Need(3, 99.0, 1, 1, tenant="outside"), "refused", 99.0),
    ]
    (part,) = parts(records, TERMS, 0.0, 10.0).values()
    assert (part.asked, part.served, part.entitled, part.in_time) == (600, 400, 400, 0.5)
    assert (part.ttft_p50, part.ttft_p99) == (1.0, 7.5)
    assert evenness([part]) == 1.0
    (idle,) = parts(records[2:3], TERMS, 0.0, 10.0).values()
    assert (idle.in_time, idle.ttft_p99) == (1.0, None)


def test_arrivals_have_the_rate_and_the_variation_they_were_asked_for() -> None:
    client = Client("c", 5.0, 3.0, SHORT, SHORT)
    needs = arrivals([client], 100.0, 4100.0, 1)
    gaps = [b.at - a.at for a, b in zip(needs, needs[1:], strict=False)]
    assert len(needs) / 4000 == pytest.approx(5.0, rel=0.1)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(3.0, rel=0.15)
    assert fmean(need.answer for need in needs) == pytest.approx(SHORT.mean(), rel=0.05)
    assert [need.id for need in needs] == list(range(len(needs)))
    assert all(100.0 <= need.at < 4100.0 for need in needs)


def test_leaving_out_one_client_changes_nothing_for_the_others() -> None:
    one, two = (Client(name, 2.0, 1.5, SHORT, SHORT) for name in "ab")

    def of(*clients: Client) -> list[tuple[float, int, int]]:
        return [(n.at, n.prompt, n.answer) for n in arrivals(clients, 0.0, 50.0, 7) if n.tenant == "a"]

    assert of(one, two) == of(one) == of(one, two.times(0.0))


def test_lengths_follow_their_quantiles_and_never_leave_them() -> None:
    found = Lengths(100, 1000, 10_000)
    assert [found.at(share) for share in (0.0, 0.5, 0.9, 0.99, 1.0)] == [30, 100, 1000, 10_000, 12_000]
    assert Lengths(0.1, 1e5, 1e6).at(0.0) == 1
    assert Lengths(0.1, 1e5, 1e6).at(1.0) == 32_768


def test_measured_clients_are_read_from_a_table() -> None:
    table = ["# source", "client,mean_rps,rate_weighted_iat_cv,in_p50,in_p90,in_p99,out_p50,out_p90,out_p99"]
    (client,) = read([*table, "7,1.5,2.0,1,2,3,4,5,6"], "mean_rps")
    assert client == Client("client-7", 1.5, 2.0, Lengths(1, 2, 3), Lengths(4, 5, 6))


def test_the_clairvoyant_and_the_gateway_share_by_weight_and_the_control_does_not() -> None:
    fleet = Fleet((Profile("one", limits=Limits(streams=8), slots=8),))
    clients = [Client("big", 30.0, 1.5, SHORT, SHORT), Client("small", 15.0, 1.5, SHORT, SHORT)]
    needs = arrivals(clients, 0.0, 60.0, 3)
    weights = {"small": 3.0}
    plan = plan_of(fleet, TERMS)
    fair = parts(rehearse(plan, fleet, needs, weights=weights).records, TERMS, 10.0, 55.0, weights)
    known = parts(replay(fleet, needs, (), TERMS, weights=weights), TERMS, 10.0, 55.0, weights)
    control = parts(rehearse(plan, fleet, needs, fair=False).records, TERMS, 10.0, 55.0, weights)
    for found in (fair, known):
        assert found["small"].served / found["big"].served == pytest.approx(3.0, rel=0.15)
        assert evenness(found.values()) >= 0.98
    assert evenness(control.values()) < 0.8
