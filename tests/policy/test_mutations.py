"""Whatever happens to a document: it becomes a configuration or a `DocumentError`, and no secret gets out."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled

Compile = Callable[[str], Compiled]

SNIPPETS = [
    "${ACME_KEY}",
    '"${ARK_API_KEY}"',
    "'${CEL}'",
    "x${ACME_KEY}x",
    "${",
    "&a ",
    "*a",
    "<<: ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "\n",
    "\n  ",
    "\t",
    "#",
    "'",
    '"',
    "|\n",
    "? ",
    "!!int ",
    "---\n",
    "0",
    "-1",
    "1e309",
    "~",
    "\x00",
    "\u2028",
    "\ud800",
    "é",
    "sha256:",
    "http://",
    "when: ",
]
SETTINGS = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
EDITS = st.lists(
    st.tuples(
        st.integers(0, 1200),
        st.integers(0, 12),
        st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=6)),
    ),
    min_size=1,
    max_size=4,
)


def outcome(compile_text: Compile, text: str) -> str:
    """All that is said about a document. (A name may be made from a variable, and a plan shows its names.)"""
    try:
        compiled = compile_text(text)
        return repr((compiled.connections, compiled.tenants, compiled.warnings))
    except DocumentError as error:
        problems = error.problems
    assert problems
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    return repr(problems) + "\n".join(str(problem) for problem in problems)


@SETTINGS
@given(edits=EDITS)
def test_a_damaged_document_never_breaks_the_reader(
    edits: list[tuple[int, int, str]], valid: str, compile_text: Compile
) -> None:
    text = valid
    for at, length, snippet in edits:
        text = text[:at] + snippet + text[at + length :]
    assert "may-see" not in outcome(compile_text, text)


@SETTINGS
@given(data=st.data())
def test_lines_in_any_order_never_break_the_reader(data: st.DataObject, valid: str, compile_text: Compile) -> None:
    lines = valid.splitlines()
    picked = data.draw(st.lists(st.sampled_from(lines), max_size=40))
    assert "may-see" not in outcome(compile_text, "\n".join(picked))


@SETTINGS
@given(line=st.integers(0, 35), value=st.sampled_from([*SNIPPETS, "'${ACME_KEY}'", "[]", "{}", "['${ARK_API_KEY}']"]))
def test_any_value_in_any_place_never_breaks_the_reader(
    line: int, value: str, valid: str, compile_text: Compile
) -> None:
    lines = valid.splitlines()
    head, colon, _ = lines[line].partition(":")
    lines[line] = f"{head}{colon} {value}"
    assert "may-see" not in outcome(compile_text, "\n".join(lines))
