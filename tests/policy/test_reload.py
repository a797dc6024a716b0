"""What a reload changed, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.policy.compiled import Compiled, PresetInfo
from gateway.policy.load import load_text
from gateway.policy.reload import changes

Compile = Callable[[str], Compiled]


def test_the_same_document_changes_nothing(valid: str, compile_text: Compile) -> None:
    assert changes(compile_text(valid), compile_text("# a comment\n" + valid)) == ()


def test_every_part_that_came_went_or_changed_is_named(valid: str, compile_text: Compile) -> None:
    new = valid.replace("streams: 48", "streams: 50").replace("20s", "30s").replace("16MiB", "8MiB")
    new = new.replace("  zeta:", "  omega:").replace("[deepseek-reasoner]", "[]")
    assert changes(compile_text(valid), compile_text(new)) == (
        "model 'r2' changed",
        "account 'own' changed",
        "policy 'surge' changed",
        "tenant 'omega' added",
        "tenant 'zeta' removed",
        "server changed",
    )


def test_a_new_key_is_a_change_and_is_not_shown(
    valid: str, env: Mapping[str, str], presets: Mapping[str, PresetInfo], compile_text: Compile
) -> None:
    new = load_text(valid, {**env, "ARK_API_KEY": "another-key"}, presets)
    assert changes(compile_text(valid), new) == ("backend 'ark' changed",)
