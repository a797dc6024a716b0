"""What `spillgate status` says of pressure and of who waits."""

from __future__ import annotations

from dataclasses import asdict, replace
from random import Random
from typing import Any

import pytest

from gateway.cli import status
from gateway.core.dispatcher import Dispatcher
from gateway.core.ladder import Rung
from gateway.core.nouns import Limits, Request, ServiceClass
from gateway.testing import plan


def shown(requests: list[ServiceClass], capsys: pytest.CaptureFixture[str]) -> list[str]:
    found = plan([["own"]], limits={"own": Limits(streams=2)})
    ladder = (Rung(0.5, frozenset({"batch"}), max_tokens=9),)
    dispatcher = Dispatcher(replace(found, policies={"p": replace(found.policies["p"], ladder=ladder)}), Random(1))
    for number, class_ in enumerate(requests):
        dispatcher.offer(Request(f"q{number}", "t", "r2", class_, 100, 10, True, 0.0), 0.0)
    dispatcher.outlook.form("r2", "batch", 4.0)
    fleet: dict[str, Any] = asdict(dispatcher.snapshot(4.0))
    told: dict[str, Any] = {
        "version": "1",
        "configuration": "c",
        "reload_error": "",
        "fleet": fleet,
        "usage": [],
        "budgets": [],
    }
    told["shared_state"] = None
    status._show(told)
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_a_calm_model_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "r2: pressure 0.00" in shown([], capsys)


def test_classes_that_differ_have_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(["standard"] * 4, capsys)
    assert "r2: pressure 1.00 (interactive)" in lines
    assert "r2: pressure 1.00, expected wait unknown (standard)" in lines
    assert "r2: pressure 1.00, rung 0.5 holds, expected wait unknown (batch)" in lines
    assert "waiting, standard: 2, the oldest for 4.0 s" in lines


def test_tenants_are_shown_with_their_classes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(["standard", "standard", "batch", "standard"], capsys)
    assert "waiting: t 1 batch, 1 standard" in lines
