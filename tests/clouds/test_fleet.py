from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.clouds.fleet import FleetError, changed, load, parse
from gateway.clouds.profiles import Profile
from gateway.core.nouns import Limits

DEMO = Path(__file__).parents[2] / "policies" / "clouds-demo.yaml"


def problems(document: object) -> list[str]:
    with pytest.raises(FleetError) as caught:
        parse(document)
    return caught.value.problems


def test_an_empty_cloud_has_sensible_habits() -> None:
    fleet = parse({"clouds": {"a": None}})
    assert fleet.clouds == (Profile("a"),)
    assert fleet.named == {"a": Profile("a")}


def test_every_word_is_read_in_its_unit() -> None:
    (cloud,) = parse(
        {
            "seed": 3,
            "control": 0,
            "clouds": {
                "a": {
                    "port": 9000,
                    "dialect": "ark",
                    "models": ["m"],
                    "key": "k",
                    "limits": {"streams": 3, "daily": 50},
                    "slots": 2,
                    "queue": "unbounded",
                    "give_up": "1m",
                    "laws": {"t0": "30ms", "k": 0.001, "net": "1s"},
                    "answer": {"median": 5, "reasoning": 0.5},
                    "style": {"usage": "always", "keep_alive": "2s"},
                    "faults": {"stall": 0.1, "server": 0.2},
                }
            },
        }
    ).clouds
    assert (cloud.port, cloud.dialect, cloud.models, cloud.key) == (9000, "ark", ("m",), "k")
    assert (cloud.limits, cloud.daily) == (Limits(streams=3), 50)
    assert (cloud.slots, cloud.queue, cloud.give_up) == (2, None, 60.0)
    assert (cloud.laws.t0, cloud.laws.k, cloud.laws.net) == (0.03, 0.001, 1.0)
    assert (cloud.style.usage, cloud.style.keep_alive) == ("always", 2.0)
    assert (cloud.faults.fates, cloud.faults.chances) == ((("stall", 0.1),), (("server", 0.2),))


def test_a_dialect_brings_its_habits_and_style_has_the_last_word() -> None:
    (cloud,) = parse({"clouds": {"a": {"dialect": "deepseek", "style": {"keep_alive": None}}}}).clouds
    assert (cloud.style.usage, cloud.style.cached, cloud.style.keep_alive) == ("finish", "both", None)


@pytest.mark.parametrize(
    ("document", "path", "hint"),
    [
        ({"clouds": {"a": {"limts": {}}}}, "clouds.a.limts", "did you mean limits?"),
        ({"clouds": {"a": {"limits": {"stream": 1}}}}, "clouds.a.limits.stream", "did you mean streams?"),
        ({"clouds": {"a": {"limits": {"rpm": 0}}}}, "clouds.a.limits.rpm", "at least 1"),
        ({"clouds": {"a": {"limits": []}}}, "clouds.a.limits", "a mapping"),
        ({"clouds": {"a": {"dialect": "arc"}}}, "clouds.a.dialect", "ark?"),
        ({"clouds": {"a": {"port": 70000}}}, "clouds.a.port", "a port number"),
        ({"clouds": {"a": {"models": []}}}, "clouds.a.models", "at least one name"),
        ({"clouds": {"a": {"key": 7}}}, "clouds.a.key", "a text"),
        ({"clouds": {"a": {"queue": -1}}}, "clouds.a.queue", "a whole number"),
        ({"clouds": {"a": {"laws": {"t0": "fast"}}}}, "clouds.a.laws.t0", "such as 30ms"),
        ({"clouds": {"a": {"laws": {"t0": "xs"}}}}, "clouds.a.laws.t0", "such as 30ms"),
        ({"clouds": {"a": {"laws": {"t0": 0}}}}, "clouds.a.laws.t0", "above 0"),
        ({"clouds": {"a": {"laws": {"prefill": 0}}}}, "clouds.a.laws.prefill", "above 0"),
        ({"clouds": {"a": {"laws": {"prefill": None}}}}, "clouds.a.laws.prefill", "above 0"),
        ({"clouds": {"a": {"laws": {"jitter": 2}}}}, "clouds.a.laws.jitter", "between 0 and 1"),
        ({"clouds": {"a": {"prefix_cache": 1}}}, "clouds.a.prefix_cache", "true or false"),
        ({"clouds": {"a": {"faults": {"stall": 0.7, "cut": 0.7}}}}, "clouds.a.faults", "must not exceed 1"),
        ({"clouds": {"a": 3}}, "clouds.a", "a mapping"),
        ({"clouds": {"a": {"port": 9}, "b": {"port": 9}}}, "port", "the same"),
        ({"clouds": {}}, "clouds", "at least one"),
        ({"clouds": {"a": {}}, "sed": 1}, "sed", "did you mean seed?"),
        (None, "the file", "a mapping"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(document: object, path: str, hint: str) -> None:
    found = problems(document)
    assert found[0].startswith(f"{path}: ")
    assert hint in found[0]


def test_all_problems_are_told_at_once() -> None:
    assert len(problems({"clouds": {"a": {"slots": 0, "fail": "x"}, "b": {"style": {"usage": 1}}}})) == 3


def test_a_change_touches_only_what_it_names() -> None:
    before = parse({"clouds": {"a": {"limits": {"streams": 4, "rpm": 9}, "faults": {"cut": 0.5}}}}).clouds[0]
    after = changed(before, {"limits": {"streams": None}, "faults": {"stall": 0.1}, "fail": "slow", "drag": 3})
    assert after.limits == Limits(rpm=9)
    assert after.faults.fates == (("stall", 0.1), ("cut", 0.5))
    assert (after.fail, after.drag) == ("slow", 3.0)
    assert changed(after, {"fail": None}).fail == ""


@pytest.mark.parametrize("change", [{"port": 1}, {"dialect": "ark"}, {"fail": "crahs"}, 3, {"faults": {"cut": 2}}])
def test_a_wrong_change_raises(change: Any) -> None:
    with pytest.raises(FleetError):
        changed(Profile("a"), change)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name, content in (("a.yaml", "clouds: ["), ("b.yaml", "clouds: 3"), ("c.yaml", None)):
        path = tmp_path / name
        if content is not None:
            path.write_text(content)
        with pytest.raises(FleetError, match=name):
            load(path)


def test_the_demos_clouds_add_up_to_what_their_comment_says() -> None:
    fleet = load(DEMO)
    streams = {cloud.name: cloud.limits.streams for cloud in fleet.clouds}
    assert streams == {"own-h20": 12, "ark": 20, "dashscope": 16, "deepseek": 24, "siliconflow": None}
    assert [cloud.port for cloud in fleet.clouds] == [9101, 9102, 9103, 9104, 9105]
    for cloud in fleet.clouds:
        batch = cloud.slots or cloud.limits.streams or 12
        seconds = cloud.answer.median * (cloud.laws.t0 + cloud.laws.k * batch)
        assert 2 < seconds < 6
