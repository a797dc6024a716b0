"""Every way to get a document wrong that we could think of: each is refused with its place, its path and a hint."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled

Compile = Callable[[str], Compiled]


class Broken(NamedTuple):
    """In the valid document, `old` becomes `new`; the one problem found starts and ends like this."""

    old: str
    new: str
    place: str
    path: str
    says: str
    hint: str = ""


TABLE = {
    # names of keys
    "a typo in a key": Broken("    policy: surge", "    polcy: surge", "4:5", "models.r2", "unknown key 'polcy'", "'policy'?"),
    "a typo at the top": Broken("tenants:", "tenats:", "29:1", "", "unknown key 'tenats'", "'tenants'?"),
    "a key in the wrong case": Broken("    queue:", "    Queue:", "24:5", "policies.surge", "unknown key 'Queue'", "'queue'?"),
    "an unheard-of key": Broken("server:\n", "zzzzzz: 1\nserver:\n", "35:1", "", "unknown key 'zzzzzz'", "one of models"),
    "a duplicate key": Broken("  zeta:\n", "  acme:\n", "33:3", "", "'acme' is here a second time", "line 30"),
    "a missing key": Broken("    keys: [\"${ZETA_KEY}\"]", "    class: batch", "33:3", "tenants.zeta", "'keys' is missing"),
    "a name that cannot be one": Broken("  zeta:\n", '  "ze ta":\n', "33:3", "tenants", "cannot be a name", "letters"),
    "a list as a key": Broken("server:\n", "[a]: 1\nserver:\n", "35:1", "", "a name was expected here"),
    # types
    "a text for a number": Broken("streams: 48", "streams: many", "11:23", "backends.own.limits.streams", "'many'", "whole number"),
    "a quoted number": Broken("streams: 48", 'streams: "48"', "11:23", "backends.own.limits.streams", "'48' is text", "without quotes"),
    "a list for a mapping": Broken("limits: {streams: 48}", "limits: [48]", "11:13", "backends.own.limits", "this is a list", "one of streams"),
    "a value for a mapping of names": Broken("serves: {r2: deepseek-r2}", "serves: r2", "10:13", "backends.own.serves", "single value", "mapping of names"),
    "a value for a list": Broken("aliases: [deepseek-reasoner]", "aliases: deepseek-reasoner", "3:14", "models.r2.aliases", "single value", "[a, b]"),
    "a mapping for a text": Broken("policy: surge", "policy: {a: b}", "4:13", "models.r2.policy", "this is a mapping", "a name"),
    "a fraction of a request": Broken("rpm: 3000", "rpm: 0.5", "17:33", "backends.ark.limits.rpm", "'0.5'", "whole number"),
    "an unknown word": Broken("least-loaded", "last-loaded", "22:33", "tiers[0].choose", "'last-loaded'", "'least-loaded'?"),
    "an unknown class": Broken("class: interactive", "class: urgent", "32:12", "tenants.acme.class", "'urgent'", "standard"),
    "nothing after the colon": Broken("policy: surge", "policy:", "4:12", "models.r2.policy", "has no value", "a name"),
    "a line break in an id": Broken("r2: deepseek-r2}", 'r2: "a\\nb"}', "10:18", "serves.r2", "line break", "text"),
    # amounts
    "zero as a limit": Broken("streams: 48", "streams: 0", "11:23", "limits.streams", "'0' is too small", "leave it out"),
    "a negative limit": Broken("streams: 48", "streams: -3", "11:23", "limits.streams", "'-3' is too small", "leave it out"),
    "a limit beyond reason": Broken("streams: 48", "streams: 9_999_999_999_999", "11:23", "limits.streams", "too large"),
    "a duration without a unit": Broken("20s", "20", "24:23", "queue.max_wait", "'20'", "500ms, 20s"),
    "a duration of nonsense": Broken("20s", "soon", "24:23", "queue.max_wait", "'soon'", "500ms, 20s"),
    "a share above one": Broken("budget: 0.1", "budget: 10", "25:21", "retry.budget", "too large", "at most 1"),
    "a size of nonsense": Broken("16MiB", "16 bytes", "36:13", "server.max_body", "'16 bytes'", "16MiB"),
    "a size too small to be meant": Broken("16MiB", "16B", "36:13", "server.max_body", "too small", "1_024"),
    "a weight of zero": Broken("own: 1}", "own: 0}", "28:73", "weights.own", "too small", "more than 0"),
    # names that lead nowhere
    "an unknown policy": Broken("policy: surge", "policy: sruge", "4:13", "models.r2.policy", "unknown policy 'sruge'", "'surge'?"),
    "an unknown backend": Broken("backends: [own]", "backends: [owm]", "22:20", "tiers[0].backends[0]", "unknown backend 'owm'", "'own'?"),
    "an unknown preset": Broken("volcengine-ark", "volcengin", "13:13", "backends.ark.preset", "unknown preset", "'volcengine-ark'?"),
    "an unknown model": Broken("serves: {r2: deepseek-r2}", "serves: {r3: deepseek-r2}", "10:14", "own.serves.r3", "unknown model 'r3'", "'r2'?"),
    "an alias in serves": Broken("serves: {r2: deepseek-r2}", "serves: {deepseek-reasoner: x}", "10:14", "serves", "is an alias", "'r2'"),
    "no policy where there are two": Broken("flash: {policy: cheap}", "flash: {}", "5:3", "models.flash", "names no policy", "surge or cheap"),
    "a model nobody serves": Broken(", flash: deepseek-v4-flash", "", "5:3", "models.flash", "no backend of policy 'cheap'", "serves"),
    "an alias that is a model": Broken("[deepseek-reasoner]", "[flash]", "3:15", "aliases[0]", "'flash' is itself a model", "line 5"),
    "a model that is its own alias": Broken("[deepseek-reasoner]", "[r2]", "3:15", "aliases[0]", "its own alias"),
    "an alias taken twice": Broken("{policy: cheap}", "{policy: cheap, aliases: [deepseek-reasoner]}", "5:35", "models.flash", "taken", "'r2'"),
    # tiers
    "no tiers": Broken("    tiers:\n      - {backends: [ark, own]", "    tiers: []\n    x:\n      - {backends: [ark, own]", "27:5", "cheap.tiers", "is empty"),
    "an empty tier": Broken("backends: [own]", "backends: []", "22:10", "tiers[0].backends", "is empty", "at least one"),
    "a backend twice in a tier": Broken("[own]", "[own, own]", "22:25", "backends[1]", "in this tier already"),
    "weighted without weights": Broken(", weights: {ark: 2, own: 1}", "", "28:30", "cheap.tiers[0]", "needs `weights`", "ark: 1"),
    "a weight missing": Broken("{ark: 2, own: 1}", "{ark: 2}", "28:48", "weights", "no weight for 'own'"),
    "a weight too many": Broken("{ark: 2, own: 1}", "{ark: 2, own: 1, owl: 1}", "28:74", "weights.owl", "not in this tier", "'own'?"),
    "prices in two currencies": Broken(
        "    limits: {streams: 48}\n", "    price: {input: 1, output: 2, currency: USD}\n", "28:30", "choose", "CNY and USD"
    ),
    # conditions
    "CEL with a syntax error": Broken('"interactive"\'', '"interactive" &&\'', "23:31", "tiers[1].when", "not a CEL expression"),
    "CEL with an unknown field": Broken("request.class", "request.klass", "23:31", "tiers[1].when", "no field 'klass'", "'class'?"),
    "CEL with an unknown name": Broken("request.class", "class", "23:31", "tiers[1].when", "unknown name 'class'", "'request.class'?"),
    "CEL that is no question": Broken("request.class == \"interactive\"", "1 + 1", "23:31", "tiers[1].when", "gives int", "true or false"),
    # keys and addresses
    "an unset variable": Broken("${ACME_KEY}", "${ACMEE_KEY}", "31:12", "acme.keys[0]", "ACMEE_KEY is not set", "'ACME_KEY'?"),
    "an unset variable like no other": Broken("${ACME_KEY}", "${QQQQQ}", "31:12", "acme.keys[0]", "QQQQQ is not set", "${QQQQQ:-value}"),
    "a malformed reference": Broken("${ARK_API_KEY}", "${ARK-API-KEY}", "15:10", "ark.key", "not well formed", "${NAME:-default}"),
    "a plain key": Broken('"${ACME_KEY}"', "nobody-may-see", "31:12", "acme.keys[0]", "may not stand", "printf %s KEY | sha256sum"),
    "a key as a default": Broken("${ACME_KEY}", "${NO:-nobody-may-see}", "31:12", "acme.keys[0]", "may not stand", "sha256:"),
    "a digest too short": Broken("${ACME_KEY}", "sha256:abcd", "31:12", "acme.keys[0]", "not a SHA-256", "64 hexadecimal"),
    "a key too short": Broken("${ACME_KEY}", "${SHORT}", "31:12", "acme.keys[0]", "${SHORT} does not hold", "at least 8"),
    "a key with spaces": Broken("${ACME_KEY}", "${SPACED}", "31:12", "acme.keys[0]", "${SPACED} does not hold", "without spaces"),
    "an empty key": Broken("${ACME_KEY}", "${BLANK}", "31:12", "acme.keys[0]", "is empty"),
    "one key for two tenants": Broken("${ZETA_KEY}", "${ACME_KEY}", "34:12", "zeta.keys[0]", "tenant 'acme' has the same key", "line 31"),
    "one key twice": Broken('["${ZETA_KEY}"]', '["${ZETA_KEY}", "${ZETA_KEY}"]', "34:27", "zeta.keys[1]", "this tenant has the same"),
    "no key for a cloud": Broken("    key: ${ARK_API_KEY}\n", "", "12:3", "backends.ark", "'key' is missing", "key: ${ARK_API_KEY}"),
    "a cloud key with spaces": Broken("${ARK_API_KEY}", "${SPACED}", "15:10", "ark.key", "cannot be a key", "without spaces"),
    "no address": Broken("    base_url: http://10.0.0.5:8000/v1\n", "", "7:3", "backends.own", "'base_url' is missing", "http://HOST"),
    "a foreign scheme": Broken("http://10.0", "ftp://10.0", "9:15", "own.base_url", "not an http", "http://10.0.0.5:8000/v1"),
    "a bad port": Broken(":8000/v1", ":80000/v1", "9:15", "own.base_url", "not a URL"),
    "no host": Broken("http://10.0.0.5:8000/v1", "http:///v1", "9:15", "own.base_url", "not a URL"),
    "a password in a URL": Broken("http://10", "http://u:p@10", "9:15", "own.base_url", "user or password", "http"),
    "a query in a URL": Broken("8000/v1", "8000/v1?a=b", "9:15", "own.base_url", "query"),
    "the address of a route": Broken("8000/v1", "8000/v1/chat/completions", "9:15", "own.base_url", "leave /chat/completions out"),
    "a header of ours": Broken("    account:", "    headers: {Authorization: x}\n    account:", "16:15", "headers", "sets 'Authorization'", "`key`"),
    "another header of ours": Broken("    account:", "    headers: {Host: x}\n    account:", "16:15", "headers", "sets 'Host'"),
    "a header that cannot be one": Broken("    account:", "    headers: {a.b: x}\n    account:", "16:15", "headers", "cannot be a header"),
    "a header beyond ASCII": Broken("    account:", "    headers: {X-A: é}\n    account:", "16:20", "headers.X-A", "cannot be sent", "ASCII"),
    "accounts that contradict": Broken("streams: 48}\n", "streams: 48}\n    account: ark-main\n", "18:5", "ark.limits", "line 11 (backend 'own')"),
    # YAML itself
    "a tab": Broken("    queue:", "\tqueue:", "24:1", "", "cannot start any token", "not with tabs"),
    "an open bracket": Broken('["${ACME_KEY}"]', '["${ACME_KEY}"', "32:10", "", "not YAML"),
    "a reference in braces": Broken('["${ACME_KEY}"]', "[${ACME_KEY}]", "31:13", "", "not YAML", "in quotes"),
    "a colon too many": Broken("policy: surge", "policy: a: b", "4:14", "", "not YAML", "needs quotes"),
    "a cyclic alias": Broken("  r2:\n", "  r2: &a\n    x: *a\n", "3:8", "", "*a stands inside its own anchor", "",),
    "an alias of nothing": Broken("policy: surge", "policy: *nowhere", "4:13", "", "*nowhere has no anchor"),
    "a tag": Broken("policy: surge", "policy: !secret surge", "4:13", "", "the tag !secret means nothing", "leave the tag out"),
    "a second document": Broken("server:\n", "---\nserver:\n", "35:1", "", "a second document"),
    "a merge of nothing": Broken("    policy: surge", "    policy: surge\n    <<: 3", "5:9", "", "'<<' takes a mapping"),
    "a control character": Broken("policy: surge", "policy: su\x07rge", "4:15", "", "control character", "printable"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_a_broken_document_is_refused_with_place_path_and_hint(case: Broken, valid: str, compile_text: Compile) -> None:
    assert valid.count(case.old) >= 1
    with pytest.raises(DocumentError) as caught:
        compile_text(valid.replace(case.old, case.new, 1))
    shown = str(caught.value)
    matching = [
        problem
        for problem in caught.value.problems
        if f"{problem.line}:{problem.column}" == case.place and case.says in problem.message
    ]
    assert len(matching) == 1, shown
    assert case.path in matching[0].path, shown
    assert case.hint in matching[0].hint, shown
    assert str(matching[0]).startswith(f"doc.yaml:{case.place}: "), shown
    assert "may-see" not in shown


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_a_mistake_does_not_drown_in_its_consequences(case: Broken, valid: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError) as caught:
        compile_text(valid.replace(case.old, case.new, 1))
    assert len(caught.value.problems) <= 2, str(caught.value)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(TABLE) >= 40


def test_all_errors_are_told_at_once_in_the_order_of_the_document(valid: str, compile_text: Compile) -> None:
    text = valid.replace("polcy", "policy").replace("20s", "20").replace("request.class", "request.klass")
    text = text.replace("preset: openai", "preset: opnai").replace("${ZETA_KEY}", "${NO_SUCH}").replace("[own]", "[owm]")
    with pytest.raises(DocumentError) as caught:
        compile_text(text)
    problems = caught.value.problems
    assert [problem.line for problem in problems] == [8, 22, 23, 24, 34]
    assert str(caught.value).splitlines() == [str(problem) for problem in problems]


def test_a_hundred_problems_are_enough(compile_text: Compile) -> None:
    text = "models: {a: {}}\n" + "".join(f"wrong{number}: 1\n" for number in range(300))
    with pytest.raises(DocumentError) as caught:
        compile_text(text)
    assert len(caught.value.problems) == 101
    assert "and 202 more problems" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("---\n", "empty"),
        ("~\n", "empty"),
        ("[a, b]\n", "not a mapping"),
        ("hello\n", "not a mapping"),
    ],
)
def test_a_document_that_is_no_mapping_says_what_one_holds(text: str, says: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match=says) as caught:
        compile_text(text)
    assert "models:" in str(caught.value)


def test_emptied_sections_are_told_as_empty(compile_text: Compile) -> None:
    with pytest.raises(DocumentError) as caught:
        compile_text("models:\nbackends: {}\npolicies:\ntenants:\n")
    assert [problem.path for problem in caught.value.problems] == ["models", "backends", "policies"]


def test_an_alias_bomb_is_refused_before_it_goes_off(compile_text: Compile) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(DocumentError, match="more than 50000 values") as caught:
        compile_text("\n".join(lines))
    assert caught.value.problems[0].line == 5


@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? "])
def test_bottomless_nesting_is_refused(opening: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match="deeper than 32"):
        compile_text(opening * 20_000)


def test_a_text_beyond_bounds_is_refused(compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match="too large"):
        compile_text("a: b\n" * 300_000)


@pytest.mark.parametrize(
    ("section", "shape"), [("models", "{{{}}}"), ("policies", "{{{}}}")]
)
def test_a_thousand_names_are_enough(section: str, shape: str, compile_text: Compile) -> None:
    names = ", ".join(f"n{number}: {{}}" for number in range(1001))
    with pytest.raises(DocumentError, match="1001 entries"):
        compile_text(f"{section}: {shape.format(names)}")


def test_a_list_of_more_than_a_thousand_is_refused(valid: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match="1001 entries"):
        compile_text(valid.replace("[deepseek-reasoner]", f"[{', '.join(f'a{n}' for n in range(1001))}]"))
