"""Tenants and keys of run time: what their records mean, and what may be done to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.caps import Allowance, Caps
from gateway.errors import BadRequest, Conflict, DocumentError, NotFound, RequestError
from gateway.policy import enrol, roster, tree
from gateway.policy.compiled import Key, Tenant
from gateway.policy.enrol import Changes, Given
from gateway.policy.keys import digest, key_id
from gateway.policy.roster import Roster
from gateway.policy.schema import TenantWord

NOW = 1_800_000_000.0
NAMES = {"r2": "r2", "deepseek-r2": "r2", "flash": "flash"}
DOC_KEY = Key(key_id(digest("doc")), digest("doc"), "laptop")
DOC = Tenant("doc", "standard", 1.0, Allowance(), (DOC_KEY,))
GIVEN = Given({"doc": DOC}, NAMES)


def after(found: Roster, changes: Changes) -> Roster:
    """The roster with these changes, as a shell makes it."""
    merged = {**found.fields, **changes}
    return roster.read({name: raw for name, raw in merged.items() if raw is not None}, found)


def made(*, tenant: str = "acme", **terms: Any) -> Roster:
    return after(roster.EMPTY, enrol.create(roster.EMPTY, GIVEN, tenant, terms, NOW))


def with_key(found: Roster, key: str, now: float = NOW, tenant: str = "acme", **terms: Any) -> Roster:
    return after(found, enrol.issue(found, GIVEN, tenant, terms, digest(key), now))


def index(found: Roster) -> roster.Index:
    return roster.index([DOC], found, NAMES)


# --- what records mean ------------------------------------------------------------------------------------


def test_a_tenant_of_run_time_is_a_tenant_like_the_documents() -> None:
    terms = {"class": "batch", "weight": 2, "limits": {"rpm": 600, "tpm": "2M"}, "models": ["deepseek-r2"]}
    found = index(made(**terms)).tenants["acme"]
    assert found == Tenant(
        "acme", "batch", 2.0, Allowance(Caps(rpm=600, tpm=2_000_000)), (), frozenset({"r2"}), found.user_id, active=True
    )


def test_a_key_lets_its_tenant_in_and_is_nowhere_in_the_records() -> None:
    found = with_key(made(), "sk-secret", name="laptop", expires="2099-01-01")
    access = index(found).accesses[digest("sk-secret")]
    assert (access.tenant.name, access.key.name, access.key.id, access.guarded) == (
        "acme", "laptop", key_id(digest("sk-secret")), True,
    )  # fmt: skip
    assert b"sk-secret" not in b"".join(found.fields.values())
    assert not index(with_key(made(), "sk-secret")).accesses[digest("sk-secret")].guarded
    assert index(with_key(made(status="disabled"), "sk-secret")).accesses[digest("sk-secret")].guarded


def test_the_document_wins_where_both_name_a_tenant_and_keys_of_both_open_it() -> None:
    found = with_key(made(tenant="doc2", weight=7), "sk-1", tenant="doc2")
    document = Tenant("doc2", "interactive", 3.0, Allowance(), (DOC_KEY,))
    both = roster.index([document], found, NAMES)
    assert both.tenants == {"doc2": document}
    assert both.accesses[digest("sk-1")].tenant is both.accesses[DOC_KEY.digest].tenant is document


def test_a_key_of_the_document_is_the_documents_whatever_the_roster_says() -> None:
    found = with_key(made(), "doc")
    assert index(found).accesses[DOC_KEY.digest].tenant is DOC
    revoked = after(found, enrol.revoke(found, Given({}, NAMES), DOC_KEY.id, NOW))
    assert index(revoked).accesses[DOC_KEY.digest].tenant is DOC
    assert index(revoked).revoked == frozenset()


def test_models_that_went_away_open_nothing_and_do_not_open_everything() -> None:
    found = made(models=["flash"])
    assert roster.index([], found, {"r2": "r2"}).tenants["acme"].models == frozenset()


def test_what_did_not_change_is_not_read_again() -> None:
    first = with_key(made(), "sk-1")
    second = after(first, enrol.create(first, GIVEN, "beta", {}, NOW))
    assert second.tenants["acme"] is first.tenants["acme"]
    assert second.keys[digest("sk-1").hex()] is first.keys[digest("sk-1").hex()]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("t:acme", b"not JSON"),
        ("t:acme", b'{"created": 1}'),
        ("t:acme", b'{"created": 1, "terms": {"word_of_tomorrow": 1}}'),
        ("t:acme", b'{"created": 1, "terms": ' + b'{"limits":' * 40 + b"1" + b"}" * 41),
        ("t:acme", b"[" * 100_000),
        ("t:ac me", b'{"created": 1, "terms": {}}'),
        ("k:" + "0" * 64, b'{"tenant": "a", "created": 1, "terms": {"expires": "soon"}}'),
        ("k:123", b'{"tenant": "a", "created": 1, "terms": {}}'),
        ("x:new", b"{}"),
        ("", b""),
    ],
)
def test_a_record_that_cannot_be_read_opens_nothing_is_told_and_is_left_alone(name: str, raw: bytes) -> None:
    found = roster.read({name: raw, **made(tenant="beta").fields})
    assert found.unread == (name,)
    assert set(index(found).tenants) == {"doc", "beta"}
    assert roster.read(found.fields, found).unread == (name,)
    later = after(found, enrol.create(found, GIVEN, "gamma", {}, NOW))
    assert later.fields[name] == raw


@given(st.dictionaries(st.text(max_size=5) | st.sampled_from(["t:a", "k:" + "a" * 64]), st.binary(max_size=30)))
def test_any_records_are_a_roster(fields: dict[str, bytes]) -> None:
    index(roster.read(fields))


def test_a_reference_in_terms_is_a_text_and_never_comes_out_of_the_environment() -> None:
    with pytest.raises(DocumentError, match=r"'\$\$\{HOME\}' cannot be a name"):
        roster.tenant_word({"user_id": "${HOME}"})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_terms_are_understood_or_refused(value: object) -> None:
    for name in ("limits", "weight", "class", "models", "user_id", "other"):
        try:
            assert isinstance(roster.tenant_word({name: value}), TenantWord)
        except DocumentError as error:
            assert error.problems


def test_a_text_that_looks_like_nothing_is_a_text() -> None:
    assert roster.tenant_word({"user_id": "null"}).user_id == "null"


def test_plain_data_has_a_bottom() -> None:
    value: object = 1
    for _ in range(40):
        value = [value]
    with pytest.raises(DocumentError, match="nested deeper"):
        tree.plain(value)


# --- what may be done -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "param", "says"),
    [
        ({"clas": "batch"}, None, "unknown key 'clas' (did you mean 'class'?)"),
        ({"class": "urgent"}, "class", "class: 'urgent' is not known here (expected one of batch"),
        ({"weight": 0}, "weight", "weight: '0' is too small"),
        ({"weight": "much"}, "weight", "weight: 'much' is not understood (expected a number)"),
        ({"user_id": ""}, "user_id", "user_id: is empty"),
        ({"limits": {"rpm": -1}}, "limits.rpm", "limits.rpm: '-1' is too small"),
        ({"limits": 5}, "limits", "limits: this is a single value (expected a mapping"),
        ({"models": ["r3"]}, "models", "models: unknown model 'r3'"),
        ({"models": "r2"}, "models", "expected a list"),
        ({"keys": ["sha256:00"]}, None, "unknown key 'keys'"),
        ({"budget": {"per": "day"}}, "budget", "'amount' is missing"),
        ({"class": None}, "class", "class: has no value"),
        ({"status": True}, "status", "'true' is not known here"),
    ],
)
def test_wrong_terms_are_refused_with_field_and_expectation(terms: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        made(**terms)
    assert says in caught.value.message
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(BadRequest) as caught:
        made(weight=-1, **{"class": "x"})
    assert [problem["param"] for problem in caught.value.details["problems"]] == ["class", "weight"]


@pytest.mark.parametrize(
    ("act", "error", "code"),
    [
        (lambda r: enrol.create(r, GIVEN, "acme", {}, NOW), Conflict, "tenant_exists"),
        (lambda r: enrol.create(r, GIVEN, "doc", {}, NOW), Conflict, "tenant_in_document"),
        (lambda r: enrol.replace(r, GIVEN, "doc", {}, NOW), Conflict, "tenant_in_document"),
        (lambda r: enrol.amend(r, GIVEN, "doc", {}, NOW), Conflict, "tenant_in_document"),
        (lambda r: enrol.dismiss(r, GIVEN, "doc", NOW), Conflict, "tenant_in_document"),
        (lambda r: enrol.create(r, GIVEN, "a b", {}, NOW), BadRequest, "invalid_value"),
        (lambda r: enrol.create(r, GIVEN, "a" * 129, {}, NOW), BadRequest, "invalid_value"),
        (lambda r: enrol.amend(r, GIVEN, "nobody", {}, NOW), NotFound, "tenant_not_found"),
        (lambda r: enrol.dismiss(r, GIVEN, "nobody", NOW), NotFound, "tenant_not_found"),
        (lambda r: enrol.issue(r, GIVEN, "nobody", {}, b"x" * 32, NOW), NotFound, "tenant_not_found"),
        (lambda r: enrol.issue(r, GIVEN, "acme", {"expires": "x"}, b"x" * 32, NOW), BadRequest, "invalid_value"),
        (lambda r: enrol.issue(r, GIVEN, "acme", {"key": "x"}, b"x" * 32, NOW), BadRequest, "invalid_value"),
        (lambda r: enrol.issue(r, GIVEN, "acme", {}, digest("sk-1"), NOW), Conflict, "key_exists"),
        (lambda r: enrol.issue(r, GIVEN, "doc", {}, b"x" * 32, NOW, "one"), BadRequest, "invalid_value"),
        (lambda r: enrol.issue(r, GIVEN, "acme", {}, b"x" * 32, NOW, "no"), NotFound, "key_not_found"),
        (lambda r: enrol.revoke(r, GIVEN, "no", NOW), NotFound, "key_not_found"),
        (lambda r: enrol.revoke(r, GIVEN, "twin", NOW), Conflict, "ambiguous_key"),
        (lambda r: enrol.revoke(r, GIVEN, DOC_KEY.id, NOW), Conflict, "key_in_document"),
        (lambda r: enrol.revoke(r, GIVEN, "laptop", NOW), Conflict, "key_in_document"),
        (lambda r: enrol.amend_key(r, GIVEN, "gone", {}, NOW), NotFound, "key_not_found"),
        (lambda r: enrol.amend_key(r, GIVEN, key_id(digest("sk-4")), {}, NOW), Conflict, "revoked_api_key"),
        (lambda r: enrol.amend_key(r, GIVEN, "one", {"name": "a b"}, NOW), BadRequest, "invalid_value"),
    ],
)
def test_what_may_not_be_done_is_refused_by_name(act: Any, error: type[RequestError], code: str) -> None:
    found = with_key(made(), "sk-1", name="one")
    for number in (2, 3):
        found = with_key(found, f"sk-{number}", name="twin")
    found = with_key(found, "sk-4", name="gone")
    found = after(found, enrol.revoke(found, GIVEN, "gone", NOW))
    with pytest.raises(error) as caught:
        act(found)
    assert caught.value.code == code


def test_terms_are_set_whole_or_changed_in_part() -> None:
    found = made(weight=2, **{"class": "batch"})
    patched = after(found, enrol.amend(found, GIVEN, "acme", {"weight": 3, "class": None}, NOW + 5))
    assert patched.tenants["acme"].record.terms == {"weight": 3}
    assert patched.tenants["acme"].record.created == NOW
    whole = after(found, enrol.replace(found, GIVEN, "acme", {"user_id": "x"}, NOW + 5))
    assert whole.tenants["acme"].record.terms == {"user_id": "x"}
    assert whole.tenants["acme"].record.created == NOW


def test_a_revoked_key_is_told_from_one_that_never_was_and_stays_revoked() -> None:
    found = with_key(made(), "sk-1")
    gone = after(found, enrol.revoke(found, GIVEN, key_id(digest("sk-1")), NOW))
    assert (digest("sk-1") in index(gone).accesses, digest("sk-1") in index(gone).revoked) == (False, True)
    assert enrol.revoke(gone, GIVEN, key_id(digest("sk-1")), NOW + 9) == {}


def test_a_tenant_that_goes_takes_its_keys_along_and_one_of_the_same_name_does_not_bring_them_back() -> None:
    found = with_key(with_key(made(), "sk-1"), "sk-doc", tenant="doc")
    gone = after(found, enrol.dismiss(found, GIVEN, "acme", NOW))
    assert set(index(gone).tenants) == {"doc"}
    again = after(gone, enrol.create(gone, GIVEN, "acme", {}, NOW))
    assert digest("sk-1") in index(again).revoked
    assert set(index(again).accesses) == {DOC_KEY.digest, digest("sk-doc")}


def test_a_tenant_of_the_document_may_have_keys_of_run_time() -> None:
    found = with_key(roster.EMPTY, "sk-1", tenant="doc")
    assert index(found).accesses[digest("sk-1")].tenant is DOC


def test_a_key_whose_tenant_is_nowhere_opens_nothing() -> None:
    found = with_key(roster.EMPTY, "sk-1", tenant="doc")
    assert digest("sk-1") not in roster.index([], found, NAMES).accesses


def test_a_new_key_may_replace_an_old_one_which_goes_on_for_a_while() -> None:
    found = with_key(made(), "sk-1", name="one")
    turned = after(found, enrol.issue(found, GIVEN, "acme", {}, digest("sk-2"), NOW, "one", 3600.0))
    assert turned.keys[digest("sk-1").hex()].word.expires == NOW + 3600
    assert turned.keys[digest("sk-2").hex()].word.expires is None


def test_a_key_that_ends_sooner_anyway_is_not_given_longer() -> None:
    found = with_key(made(), "sk-1", name="one", expires="2027-01-16")
    turned = after(found, enrol.issue(found, GIVEN, "acme", {}, digest("sk-2"), NOW, "one", 1e6))
    ends = turned.keys[digest("sk-1").hex()].word.expires
    assert ends == found.keys[digest("sk-1").hex()].word.expires


def test_keys_that_ended_long_ago_are_forgotten_with_the_next_change() -> None:
    found = with_key(with_key(made(), "sk-1", expires="2027-01-16"), "sk-2")
    found = with_key(after(found, enrol.revoke(found, GIVEN, key_id(digest("sk-2")), NOW)), "sk-3")
    soon = after(found, enrol.create(found, GIVEN, "beta", {}, NOW + enrol.REMEMBERED))
    assert set(soon.keys) == set(found.keys)
    late = after(found, enrol.create(found, GIVEN, "beta", {}, NOW + enrol.REMEMBERED + 86400 * 3))
    assert set(late.keys) == {digest("sk-3").hex()}


def test_nothing_grows_without_bound() -> None:
    small = Given({}, NAMES, most_tenants=2, most_keys=3)
    found = roster.EMPTY
    for name in ("acme", "beta"):
        found = after(found, enrol.create(found, small, name, {}, NOW))
    with pytest.raises(Conflict, match="2 tenants already"):
        enrol.create(found, small, "gamma", {}, NOW)
    enrol.replace(found, small, "beta", {"weight": 2}, NOW)
    for number in range(3):
        found = after(found, enrol.issue(found, small, "acme", {}, digest(f"sk-{number}"), NOW))
    with pytest.raises(Conflict, match="3 keys already"):
        enrol.issue(found, small, "acme", {}, digest("sk-3"), NOW)
    for number in (1, 0):
        found = after(found, enrol.revoke(found, GIVEN, key_id(digest(f"sk-{number}")), NOW + 1 - number))
    found = after(found, enrol.issue(found, small, "acme", {}, digest("sk-3"), NOW + 2))
    assert set(found.keys) == {digest(f"sk-{number}").hex() for number in (0, 2, 3)}  # who ended first gave way


KEYS = [f"sk-{number}" for number in range(4)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "replace", "dismiss", "issue", "revoke", "expire"]),
        st.sampled_from(["acme", "beta", "doc"]),
        st.sampled_from(KEYS),
    ),
    max_size=25,
)


@given(STEPS)
def test_whatever_is_done_a_key_opens_its_tenant_until_it_is_revoked_and_never_again(
    steps: list[tuple[str, str, str]],
) -> None:
    found, opens, dead = roster.EMPTY, dict[str, str](), set[str]()
    tenants = {"doc"}
    for verb, tenant, key in steps:
        id_ = key_id(digest(key))
        try:
            if verb in {"create", "replace"}:
                changes = getattr(enrol, verb)(found, GIVEN, tenant, {}, NOW)
                tenants.add(tenant)
            elif verb == "dismiss":
                changes = enrol.dismiss(found, GIVEN, tenant, NOW)
                tenants.discard(tenant)
                dead |= {known for known, owner in opens.items() if owner == tenant}
            elif verb == "issue":
                changes = enrol.issue(found, GIVEN, tenant, {}, digest(key), NOW)
                opens[key] = tenant
            elif verb == "revoke":
                changes = enrol.revoke(found, GIVEN, id_, NOW)
                dead.add(key)
            else:
                changes = enrol.amend_key(found, GIVEN, id_, {"expires": "2099-01-01"}, NOW)
        except RequestError:
            continue
        found = after(found, changes)
        assert found.unread == ()
        now = index(found)
        assert set(now.tenants) == tenants
        for known, owner in opens.items():
            access = now.accesses.get(digest(known))
            assert (known in dead) == (digest(known) in now.revoked)
            assert (access.tenant.name if access else None) == (None if known in dead else owner)


def test_records_are_written_in_the_words_of_the_document() -> None:
    found = with_key(made(weight=2), "sk-1", name="one")
    assert json.loads(found.fields["t:acme"]) == {"created": NOW, "terms": {"weight": 2}}
    assert json.loads(found.fields["k:" + digest("sk-1").hex()]) == {
        "tenant": "acme", "created": NOW, "terms": {"name": "one"},
    }  # fmt: skip
