"""A request made lighter: a shorter answer, less reasoning, no thinking, each in the words of the cloud that gets it.

The cap on the answer is the same for every cloud and is put into the body once (`ease`). Reasoning is asked for in a
dialect of each cloud's own, so its fields are taken out of the body then and put back per attempt (`Easing.fields`):
changed where the cloud has a switch, as the client sent them where it has none. Nothing is ever raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.core.ladder import Form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.wire.dialect import Dialect

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.decode
_encode = msgspec.json.encode
_CAPS = ("max_completion_tokens", "max_tokens")
_REASONING = ("reasoning_effort", "thinking", "enable_thinking", "thinking_budget", "chat_template_kwargs")
_RANKS = {"none": 0, "minimal": 1, "low": 2, "medium": 3, "high": 4, "xhigh": 5, "max": 6, "ultra": 7}
"""Words for effort that clients use, by how much they ask for."""


class Easing:
    """What one request gives up. `asked`: the model it asked for, when another answers; empty otherwise.

    `cap` is the answer's limit if it had to be lowered. `told` is filled as attempts are made: by backend, what was
    really changed for it.
    """

    __slots__ = ("_form", "_reasoning", "asked", "cap", "told")

    def __init__(self, form: Form, asked: str, cap: int | None, reasoning: Mapping[str, msgspec.Raw]) -> None:
        self.asked = asked
        self.cap = cap
        self.told: dict[str, tuple[str, ...]] = {}
        self._form = form
        self._reasoning = reasoning

    def __repr__(self) -> str:
        return f"<Easing {self._form}>"

    @property
    def form(self) -> Form:
        """What it was told to give up."""
        return self._form

    def fields(self, dialect: Dialect) -> tuple[bytes, tuple[str, ...]]:
        """The body's fields about reasoning for one cloud, each after a comma, and in words what was changed."""
        sent: dict[str, object] = dict(self._reasoning)
        words: tuple[str, ...] = ()
        effort = self._form.effort
        off = _switched_off(self._reasoning, dialect.thinking_off)
        if off and all(name in self._reasoning and _value(self._reasoning[name]) == off[name] for name in off):
            pass  # the client wants no thinking himself: there is nothing left to lower
        elif self._form.thinking_off and off:
            kept = {"chat_template_kwargs"} & sent.keys()
            sent, words = {**{name: sent[name] for name in kept}, **off}, ("thinking=off",)
        elif effort is not None and effort in dialect.efforts and self._asks_for_more(effort):
            sent["reasoning_effort"] = effort
            words = (f"reasoning_effort={effort}",)
        return b"".join(b"," + _encode(name) + b":" + _encode(value) for name, value in sent.items()), words

    def words(self, backend: str, model: str) -> tuple[str, ...]:
        """All that was changed for an answer by this backend, as the client is told; `model`: the one that answers."""
        cap = () if self.cap is None else (f"max_tokens={self.cap}",)
        return (*((f"model={model}",) if self.asked else ()), *cap, *self.told.get(backend, ()))

    def _asks_for_more(self, effort: str) -> bool:
        """Without a word of the client's the cloud chooses, and may choose more. An unknown word is left alone."""
        raw = self._reasoning.get("reasoning_effort")
        asked = None if raw is None else _value(raw)
        if asked is None:
            return True
        return isinstance(asked, str) and _RANKS.get(asked, 0) > _RANKS[effort]


def ease(rest: bytes, form: Form, asked: str) -> tuple[bytes, int | None, Easing]:
    """A body without its reasoning fields and with a lower cap: its bytes, the answer's limit, and what was given up.

    `rest` are the members of a JSON object, each after a comma. `asked`: see `Easing`.
    """
    members = _decode_fields(b"{" + rest[1:] + b"}")
    reasoning = {name: members.pop(name) for name in _REASONING if name in members}
    fields: dict[str, object] = dict(members)
    limits = {name: _value(members[name]) for name in _CAPS if name in members}
    named = [limit for limit in limits.values() if isinstance(limit, int)]
    cap = form.max_tokens
    if cap is not None and all(limit <= cap for limit in named) and named:
        cap = None
    if cap is not None:
        fields.update({name: cap for name, limit in limits.items() if isinstance(limit, int) and limit > cap})
        if not named:
            fields["max_tokens"] = cap
    joined = b"".join(b"," + _encode(name) + b":" + _encode(value) for name, value in fields.items())
    return joined, cap, Easing(form, asked, cap, reasoning)


def _switched_off(sent: Mapping[str, msgspec.Raw], switch: Mapping[str, object]) -> dict[str, object]:
    """The values of the switch's fields; what else the client put into them stays."""
    found: dict[str, object] = {}
    for name, value in switch.items():
        asked = _value(sent[name]) if name in sent else None
        found[name] = {**asked, **value} if isinstance(value, dict) and isinstance(asked, dict) else value
    return found


def _value(raw: msgspec.Raw) -> object:
    try:
        found: object = _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found
