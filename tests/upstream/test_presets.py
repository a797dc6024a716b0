"""The shipped presets: complete, closed in vocabulary, and safe to believe."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.upstream import presets
from gateway.upstream.presets import PresetError

FOLDER = Path(presets.__file__).parent
PROMISED = {
    "deepseek", "alibaba-model-studio", "alibaba-model-studio-intl", "volcengine-ark", "tencent-tokenhub",
    "tencent-lkeap", "baidu-qianfan", "huawei-maas", "siliconflow", "ppio", "ucloud", "infinigence", "modelscope",
    "moonshot", "zhipu", "minimax", "openai", "vllm", "sglang", "llamacpp", "litellm",
}  # fmt: skip
NO_ADDRESS = {"openai", "vllm", "sglang", "llamacpp", "litellm"}


def test_every_promised_preset_is_there() -> None:
    assert set(presets.names()) == PROMISED
    assert set(presets.infos()) == PROMISED


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_preset_says_all_that_is_needed(name: str) -> None:
    preset = presets.load(name)
    assert preset.name == preset.dialect.name == name
    assert preset.title
    assert preset.note
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", preset.checked)
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*_API_KEY", preset.key_env)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", preset.provider)
    assert (preset.auth_header, preset.auth_scheme) == ("Authorization", "Bearer")
    assert preset.chat_path.startswith("/")
    assert preset.dialect.fallback
    assert presets.infos()[name].key_env == preset.key_env
    assert presets.infos()[name].base_url == preset.base_url


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_base_url_is_https_or_must_be_given(name: str) -> None:
    url = presets.load(name).base_url
    assert (url is None) == (name in NO_ADDRESS)
    if url is not None:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert parts.username is None
        assert not parts.query
        assert not url.endswith("/")


def test_the_providers_that_telemetry_conventions_name_are_called_so() -> None:
    assert {name: presets.load(name).provider for name in ("deepseek", "moonshot", "openai")} == {
        "deepseek": "deepseek", "moonshot": "moonshot_ai", "openai": "openai",
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_file_holds_a_secret(path: Path) -> None:
    assert not re.search(
        r"\b(sk|pk|ak)-\w{6,}|bce-v3/|eyJ[\w-]{8,}|\b[0-9a-f]{32,}\b", path.read_text(encoding="utf-8")
    )


def test_what_a_client_can_have_quoted_never_takes_a_backend_out() -> None:
    """Texts of 400, 413 and 422 may quote the request; rows by text alone may only blame the request there."""
    for name in presets.names():
        dialect = presets.load(name).dialect
        for rule in dialect.rules + dialect.fallback:
            if rule.kind in {"content", "invalid"} or all(text.startswith("=") for text in rule.text):
                continue
            assert not {400, 413, 422} & set(rule.status), rule
            assert rule.status or rule.codes, rule


def test_a_code_that_only_says_bad_request_never_takes_a_backend_out() -> None:
    vague = {"invalid_request_error", "badrequesterror", "badrequest", "invalid_request", "invalidparameter"}
    for name in presets.names():
        dialect = presets.load(name).dialect
        for rule in dialect.rules + dialect.fallback:
            assert rule.kind in {"content", "invalid"} or not vague & set(rule.codes), rule


def test_no_row_applies_to_everything() -> None:
    for name in presets.names():
        dialect = presets.load(name).dialect
        assert all(rule.status or rule.codes or rule.text for rule in dialect.rules + dialect.fallback)


def test_a_preset_may_share_anothers_rows() -> None:
    assert presets.load("alibaba-model-studio-intl").dialect.rules == presets.load("alibaba-model-studio").dialect.rules


@pytest.mark.parametrize("name", ["nowhere", "common", "../presets/deepseek", ""])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(LookupError, match="no preset"):
        presets.load(name)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"kind": "rpm", "state": 429}, "unknown 'state'"),
        ({"kind": "slow"}, "'slow' is not one of"),
        ({"codes": ["x"]}, "None is not one of"),
        ({"kind": "rpm", "until": "noon"}, "'noon' is not one of"),
    ],
)
def test_the_vocabulary_of_rows_is_closed(row: dict[str, object], complaint: str) -> None:
    with pytest.raises(PresetError, match=complaint):
        presets.rule(row, "here")


def test_the_vocabulary_of_heads_is_closed() -> None:
    with pytest.raises(PresetError, match=r"here\.yaml: unknown 'titel'"):
        presets.closed({"titel": "x"}, frozenset({"title"}), "here")


def test_codes_written_as_numbers_are_texts() -> None:
    row = yaml.safe_load("{kind: rpm, status: 429, codes: [1302, Throttling.RateQuota], text: [TPM], cool: 5}")
    rule = presets.rule(row, "here")
    assert (rule.status, rule.codes, rule.text, rule.cool) == ((429,), ("1302", "throttling.ratequota"), ("tpm",), 5.0)
