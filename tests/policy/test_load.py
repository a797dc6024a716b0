"""Files and folders, and what can be wrong with them before their content is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.errors import DocumentError, SpillgateError
from gateway.policy.compiled import Compiled, PresetInfo
from gateway.policy.load import load, load_text, sources

Env = Mapping[str, str]
Presets = Mapping[str, PresetInfo]


def split(folder: Path, valid: str) -> None:
    """The valid document as three files."""
    at, end = valid.index("policies:"), valid.index("tenants:")
    (folder / "10-models.yaml").write_text(valid[:at])
    (folder / "20-policies.yml").write_text(valid[at:end])
    (folder / "30-rest.yaml").write_text(valid[end:])
    (folder / ".hidden.yaml").write_text("not: read")
    (folder / "notes.txt").write_text("not: read")
    (folder / "inner.yaml").mkdir()


def test_a_file_and_the_same_text_mean_the_same(tmp_path: Path, valid: str, env: Env, presets: Presets) -> None:
    file = tmp_path / "doc.yaml"
    file.write_text("\ufeff" + valid, encoding="utf-8")
    assert load(file, env, presets) == load_text(valid, env, presets)


def test_a_folder_is_read_as_one_document(tmp_path: Path, valid: str, env: Env, presets: Presets) -> None:
    split(tmp_path, valid)
    compiled = load(tmp_path, env, presets)
    assert compiled == load_text(valid, env, presets)
    assert [path.name for path in sources(tmp_path)] == ["10-models.yaml", "20-policies.yml", "30-rest.yaml"]


def test_files_of_a_folder_add_to_one_section(tmp_path: Path, valid: str, env: Env, presets: Presets) -> None:
    (tmp_path / "a.yaml").write_text(valid.replace("server:\n  max_body: 16MiB", "server:"))
    (tmp_path / "b.yaml").write_text("# nothing\n")
    (tmp_path / "c.yaml").write_text("models:\n  extra: {policy: cheap}\nserver: {max_body: 1MiB}\ntenants:\n")
    with pytest.raises(DocumentError, match=r"c\.yaml:2:3: models\.extra: no backend of policy 'cheap'"):
        load(tmp_path, env, presets)


def test_a_name_given_in_two_files_is_an_error_that_names_both(
    tmp_path: Path, valid: str, env: Env, presets: Presets
) -> None:
    (tmp_path / "a.yaml").write_text(valid + "currency: CNY\n")
    (tmp_path / "b.yaml").write_text("models:\n  r2: {policy: surge}\ncurrency: USD\n")
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, env, presets)
    model, currency = str(caught.value).splitlines()
    assert model.startswith(
        f"{tmp_path}/b.yaml:2:3: models.r2: 'r2' is given twice (the first is in {tmp_path}/a.yaml:2"
    )
    assert f"{tmp_path}/a.yaml:37" in currency


def test_problems_of_several_files_are_told_together(tmp_path: Path, valid: str, env: Env, presets: Presets) -> None:
    (tmp_path / "a.yaml").write_text(valid.replace("20s", "20"))
    (tmp_path / "b.yaml").write_text("tenants:\n  late: {keys: [plain]}\n")
    (tmp_path / "c.yaml").write_text("[]\n")
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, env, presets)
    assert [Path(problem.file).name for problem in caught.value.problems] == ["a.yaml", "b.yaml", "c.yaml"]


def test_a_missing_file_is_a_document_error(tmp_path: Path, env: Env, presets: Presets) -> None:
    with pytest.raises(DocumentError, match="there is no such file") as caught:
        load(tmp_path / "none.yaml", env, presets)
    assert isinstance(caught.value, SpillgateError)


def test_an_empty_folder_is_a_document_error(tmp_path: Path, env: Env, presets: Presets) -> None:
    with pytest.raises(DocumentError, match=r"expected files named \*\.yaml"):
        load(tmp_path, env, presets)


def test_a_folder_of_empty_files_is_a_document_error(tmp_path: Path, env: Env, presets: Presets) -> None:
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "b.yaml").write_text("")
    with pytest.raises(DocumentError, match=r"a\.yaml:1:1: the document is empty"):
        load(tmp_path, env, presets)


def test_a_folder_of_too_many_files_is_a_document_error(tmp_path: Path, env: Env, presets: Presets) -> None:
    for number in range(201):
        (tmp_path / f"{number}.yaml").touch()
    with pytest.raises(DocumentError, match="201 files"):
        load(tmp_path, env, presets)


def test_what_is_no_file_is_not_read(env: Env, presets: Presets) -> None:
    with pytest.raises(DocumentError, match="is not a file"):
        load(Path("/dev/zero"), env, presets)


def test_a_file_too_large_is_not_read_whole(tmp_path: Path, env: Env, presets: Presets) -> None:
    (tmp_path / "a.yaml").write_text("a: b\n" * 300_000)
    with pytest.raises(DocumentError, match="1 MiB"):
        load(tmp_path / "a.yaml", env, presets)


def test_a_path_the_system_refuses_is_a_document_error(env: Env, presets: Presets) -> None:
    with pytest.raises(DocumentError, match="cannot be read: File name too long"):
        load(Path("a" * 300), env, presets)


def test_bytes_that_are_not_utf_8_are_named_with_their_place(tmp_path: Path, env: Env, presets: Presets) -> None:
    (tmp_path / "a.yaml").write_bytes("models:\n  ä: ".encode() + b"\xff\xfe\n")
    with pytest.raises(DocumentError, match=r"a\.yaml:2:6: not UTF-8"):
        load(tmp_path / "a.yaml", env, presets)


def test_text_that_no_file_could_hold_is_a_document_error(env: Env, presets: Presets) -> None:
    with pytest.raises(DocumentError, match="<inline>:2:3: not UTF-8"):
        load_text("models:\n  \ud800: {}", env, presets)


def test_the_version_follows_the_meaning_and_nothing_else(valid: str, env: Env, presets: Presets) -> None:
    def version(text: str, env: Env = env) -> str:
        return load_text(text, env, presets).version

    compiled: Compiled = load_text(valid, env, presets)
    assert compiled.version == compiled.plan.version == version("# a comment\n" + valid)
    assert version(valid, {**env, "ACME_KEY": "another-key-of-acme"}) == compiled.version
    assert version(valid.replace("streams: 48", "streams: 49")) != compiled.version
    assert len(compiled.version) == 12
