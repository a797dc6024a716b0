"""Surges that come from few tenants: what the others feel, and what it costs, beside first come first served.

Six clouds, every limit known: what is looked at is the queue. The measured clients of a day (ServeGen's DeepSeek-R1)
have the rates of that day's busiest ten minutes' kind: those named in `BURST` are at their own peak, the rest at their
mean, and all are scaled to a multiple of what the fleet bears.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pytest

from gateway.clouds.profiles import Fleet, Laws, Profile, Style
from gateway.core.nouns import Limits
from gateway.sim.bound import sustained
from gateway.sim.clairvoyant import replay
from gateway.sim.demand import Need
from gateway.sim.fairness import Part, evenness, parts, service
from gateway.sim.rehearse import plan_of, rehearse
from gateway.sim.score import Record, Terms, good, percentile, score
from gateway.sim.tenants import Client, Lengths, arrivals, read

pytestmark = pytest.mark.timeout(600)
TERMS = Terms(10.0, 5.0)
LASTS, SINCE = 70.0, 20.0
LONG, LONG_SINCE = 240.0, 100.0
"""Some of the measured clients' answers take minutes: what was sent before the window must have ended mostly."""
SEEDS = (1, 2, 3, 4, 5)
PROMPT, ANSWER = Lengths(208, 2092, 23_423), Lengths(350, 1200, 3000)
BURST = ("client-13", "client-28", "client-12", "client-54")


def fleet_of(streams: int) -> Fleet:
    """Six clouds of so many streams each, whose tokens come twice as slowly when they are full."""
    return Fleet(
        tuple(
            Profile(
                f"cloud-{number}",
                limits=Limits(streams=streams),
                slots=streams,
                queue=None,
                laws=Laws(0.018, 0.018 / streams, 16_500, net=0.05),
                style=Style(tokens_per_event=64),
            )
            for number in range(6)
        )
    )


def beside_a_burster(times: float, seed: int, *, alone: bool) -> tuple[Fleet, tuple[Need, ...]]:
    """Nine steady tenants who ask for 3 % of the fleet each, and one who asks for all the rest."""
    fleet = fleet_of(200)
    bears = sustained(fleet, ANSWER.mean(), 300.0)
    steady = [Client(f"steady-{n}", 0.03 * bears, 1.0, PROMPT, ANSWER, "interactive") for n in range(9)]
    # he sends what most heavy clients of the trace send: short prompts
    burster = Client("burster", (times - 0.27) * bears, 2.0, Lengths(208, 214, 222), ANSWER, "interactive")
    return fleet, arrivals(steady if alone else [*steady, burster], 0.0, LASTS, seed)


def busiest_minutes(times: float, seed: int) -> tuple[Fleet, tuple[Need, ...]]:
    """The measured clients, together `times` what the fleet bears in tokens."""
    table = (Path(__file__).parent / "r1_clients.csv").read_text().splitlines()
    mean = read(table, "mean_rps")
    peak = {client.name: client for client in read(table, "peak_10min_rps")}
    clients = [peak[client.name] if client.name in BURST else client for client in mean]
    fleet = fleet_of(100)
    rate = sum(client.rate for client in clients)
    answer = sum(client.rate * client.answer.mean() for client in clients) / rate
    prompt = sum(client.rate * client.prompt.mean() for client in clients) / rate
    factor = times * sustained(fleet, answer, prompt) / rate
    return fleet, arrivals([client.times(factor) for client in clients], 0.0, LONG, seed)


@dataclass(frozen=True)
class Sum:
    """The figures of one table row."""

    even: float
    unlucky: float
    p50: float
    p99: float
    in_time: float
    efficiency: float
    decided: float

    def __str__(self) -> str:
        return (
            f"Jain {self.even:5.3f}  least served/entitled {self.unlucky:4.2f}  others' TTFT p50 {self.p50:5.2f} "
            f"p99 {self.p99:5.2f} s  in time {self.in_time:6.1%}  E {self.efficiency:5.3f}"
        )


Window = tuple[float, float]


def yielded(records: list[Record], window: Window) -> float:
    """Service of good answers in a window: the end of a run, when queues drain, says nothing."""
    return sum(service(record, *window) for record in records if good(record, TERMS))


Run = list[Record]


def judged(runs: Sequence[Run], best: Run | None, heavy: Iterable[str], span: Window) -> Sum:
    """Runs of the same world with other chance. Goodput is compared in the first one.

    `heavy`: whose own waiting does not count as the others'. Waiting is pooled: the slowest hundredth of one run is
    a handful of requests whose prompts met by chance in one cloud.
    """
    found = [parts(run, TERMS, *span).values() for run in runs]
    window = [record for run in runs for record in run if span[0] <= record.need.at < span[1]]
    ttft = [r.ttft for r in window if r.ttft is not None and r.need.tenant not in set(heavy)]
    admitted = [good(record, TERMS) for record in window if record.attempts]
    refused = [record.decided for record in window if record.status == "refused"]
    return Sum(
        fmean(evenness(each) for each in found),
        min(part.ratio for each in found for part in each),
        percentile(ttft, 0.5) or 0.0,
        percentile(ttft, 0.99) or 0.0,
        sum(admitted) / len(admitted),
        yielded(runs[0], span) / yielded(best, span) if best else 1.0,
        max(refused, default=0.0),
    )


Play = Callable[[float, int], tuple[Fleet, tuple[Need, ...]]]


def both(play: Play, times: float, heavy: Iterable[str], span: Window, seeds: Sequence[int]) -> tuple[Sum, Sum]:
    """The queue, and in one run its control, against the same fair clairvoyant queue."""
    worlds = [(seed, *play(times, seed)) for seed in seeds]
    queue = [rehearse(plan_of(fleet, TERMS), fleet, needs, (), seed).records for seed, fleet, needs in worlds]
    seed, fleet, needs = worlds[0]
    best = replay(fleet, needs, (), TERMS, seed)
    control = rehearse(plan_of(fleet, TERMS), fleet, needs, (), seed, fair=False).records
    return judged(queue, best, heavy, span), judged([control], best, heavy, span)


@pytest.fixture(scope="module")
def undisturbed() -> Sum:
    """The steady tenants by themselves."""
    runs = []
    for seed in SEEDS:
        fleet, needs = beside_a_burster(1.0, seed, alone=True)
        runs.append(rehearse(plan_of(fleet, TERMS), fleet, needs, (), seed).records)
    return judged(runs, None, (), (SINCE, LASTS))


@pytest.mark.parametrize("times", [3.0, 5.0, 10.0])
def test_a_burster_is_felt_by_himself_alone(undisturbed: Sum, note: Callable[[str], None], times: float) -> None:
    def play(times: float, seed: int) -> tuple[Fleet, tuple[Need, ...]]:
        return beside_a_burster(times, seed, alone=False)

    found, control = both(play, times, ["burster"], (SINCE, LASTS), SEEDS)
    note(f"one burster {times:4.0f}x          {found}")
    note(f"  first come first served  {control}")
    note(f"  the others by themselves {undisturbed}")
    assert found.even >= 0.98
    assert found.p99 <= 1.1 * undisturbed.p99
    assert found.in_time >= 0.99
    assert found.efficiency >= 0.97
    assert found.decided < 0.01
    assert control.even < 0.75
    assert control.p99 > 3 * undisturbed.p99


@pytest.mark.parametrize("times", [3.0, 10.0])
def test_the_measured_clients_of_a_reasoning_model_share_evenly(note: Callable[[str], None], times: float) -> None:
    found, control = both(busiest_minutes, times, BURST, (LONG_SINCE, LONG), (1,))
    note(f"R1 clients {times:4.0f}x           {found}")
    note(f"  first come first served  {control}")
    assert found.even >= 0.98
    assert found.in_time >= 0.99
    assert found.efficiency >= 0.97
    assert found.decided < 0.01
    assert control.even < 0.8


def test_two_backlogged_tenants_get_the_same_over_ten_minutes(note: Callable[[str], None]) -> None:
    fleet = fleet_of(100)
    bears = sustained(fleet, ANSWER.mean(), 300.0)
    lengths = {"chat": (Lengths(100, 200, 300), Lengths(150, 300, 500)), "reports": (PROMPT, ANSWER)}
    clients = [
        Client(name, 3.0 * bears * ANSWER.mean() / lengths[name][1].mean(), 2.0, *lengths[name]) for name in lengths
    ]
    needs = arrivals(clients, 0.0, 640.0, 1)
    run = rehearse(plan_of(fleet, TERMS), fleet, needs, until=700.0)
    chat, reports = (part.served for part in parts(run.records, TERMS, 40.0, 640.0).values())
    gap = abs(chat - reports) / max(chat, reports)
    note(f"service gap of two backlogged tenants over ten minutes: {gap:.2%}")
    assert gap <= 0.02


def test_lower_bands_have_their_floor_and_the_first_has_the_rest(note: Callable[[str], None]) -> None:
    fleet = fleet_of(50)
    bears = sustained(fleet, ANSWER.mean(), 300.0)
    prompt = Lengths(208, 214, 222)
    clients = [Client(name, 2.0 * bears, 1.5, prompt, ANSWER, name) for name in ("interactive", "standard", "batch")]
    records = rehearse(plan_of(fleet, TERMS), fleet, arrivals(clients, 0.0, 200.0, 1)).records
    had = parts(records, TERMS, 60.0, 200.0)
    total = sum(part.served for part in had.values())
    shares = {name: part.served / total for name, part in had.items()}
    note("bands, each 2x: " + ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares.items())))
    assert shares["batch"] == pytest.approx(0.1, abs=0.02)
    assert shares["standard"] == pytest.approx(0.1, abs=0.02)
    assert all(part.in_time >= 0.99 for part in had.values())


def test_newest_first_under_overload_answers_sooner(note: Callable[[str], None]) -> None:
    found: dict[str, Part] = {}
    goodput = {}
    for class_ in ("interactive", "standard"):
        fleet = fleet_of(50)
        client = Client("one", 3.0 * sustained(fleet, ANSWER.mean(), 300.0), 1.5, PROMPT, ANSWER, class_)  # type: ignore[arg-type]
        records = rehearse(plan_of(fleet, TERMS), fleet, arrivals([client], 0.0, 200.0, 1)).records
        found[class_] = parts(records, TERMS, SINCE, 200.0)["one"]
        goodput[class_] = score(records, TERMS).goodput
        note(
            f"one tenant at 3x, {class_:11}: TTFT p50 {found[class_].ttft_p50:5.2f} s, "
            f"p99 {found[class_].ttft_p99:5.2f} s, goodput {goodput[class_] / 1000:.0f}k tokens"
        )
    assert (found["interactive"].ttft_p50 or 0) < 0.7 * (found["standard"].ttft_p50 or 0)
    assert goodput["interactive"] >= 0.95 * goodput["standard"]
