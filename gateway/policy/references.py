"""`${NAME}` and `${NAME:-default}` in the text of a document.

Resolved when the document is read, from a mapping that is handed in. `$${` stands for a literal `${`. As in a shell,
a variable that is set but empty counts as missing where there is a default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct, field

_REFERENCE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|(\$\{)")


class Text(Struct):
    """A text with its references resolved. `written` is how the document has it, and safe to show."""

    written: str
    value: str
    referenced: bool = False
    defaulted: bool = False
    missing: tuple[str, ...] = ()
    malformed: bool = False
    used: dict[str, str] = field(default_factory=dict)
    """Resolved value: the reference it came from."""

    def __repr__(self) -> str:
        return f"<Text {self.written!r}>"


def resolve(written: str, env: Mapping[str, str]) -> Text:
    """Never raises: what is missing or malformed is told in the result."""
    if "${" not in written:
        return Text(written, written)
    text = Text(written, "")

    def put(found: re.Match[str]) -> str:
        escaped, name, default, broken = found.groups()
        if escaped:
            return "${"
        if broken:
            text.malformed = True
            return ""
        text.referenced = True
        value = env.get(name)
        if value is None or (not value and default is not None):
            if default is None:
                text.missing = (*text.missing, name)
                return ""
            text.defaulted = True
            return str(default)
        text.used[value] = f"${{{name}}}"
        return value

    text.value = _REFERENCE.sub(put, written)
    return text
