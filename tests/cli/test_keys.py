"""`spillgate keys` where it needs no gateway."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from gateway.cli import main
from gateway.policy.keys import digest, key_id
from gateway.policy.load import load_text
from gateway.upstream import presets

DOCUMENT = """
models: {{r2: {{}}}}
backends: {{one: {{preset: vllm, base_url: "http://one/v1", serves: {{r2: x}}}}}}
policies: {{p: {{tiers: [{{backends: [one]}}]}}}}
tenants:
  acme:
    keys:
      - {line}
"""


def key_of(line: str) -> Any:
    (tenant,) = load_text(DOCUMENT.format(line=line), {}, presets.infos()).tenants
    (key,) = tenant.keys
    return key


def test_the_line_that_comes_with_a_key_stands_in_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "acme", "--offline", "--name", "one", "--expires", "2027-12-31"]) == 0
    out, err = capsys.readouterr()
    key = key_of(err.splitlines()[-1].strip().removeprefix("- "))
    assert (key.digest, key.name) == (digest(out.strip()), "one")
    assert key.expires == 1_830_211_200.0


def test_two_keys_are_never_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        main(["keys", "new", "acme", "--offline", "--json"])
    first, second = capsys.readouterr().out.split("\n}\n{")
    assert json.loads(first + "}")["id"] != json.loads("{" + second)["id"]


def test_a_key_is_hashed_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-of-somebody\n"))
    assert main(["keys", "hash"]) == 0
    assert key_of(capsys.readouterr().out.strip()).id == key_id(digest("sk-of-somebody"))


@pytest.mark.parametrize("text", ["", "short\n", "two words of it\n", "sk-müller-key\n"])
def test_what_is_no_key_is_not_hashed(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert main(["keys", "hash"]) == 2
    out, err = capsys.readouterr()
    assert (out, "at least 8" in err) == ("", True)


def test_without_the_admin_key_nobody_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPILLGATE_ADMIN_KEY", raising=False)
    assert main(["keys", "list"]) == 1
    assert "SPILLGATE_ADMIN_KEY" in capsys.readouterr().err
