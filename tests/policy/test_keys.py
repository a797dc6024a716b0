"""Keys: how they look, what is kept of them, when they end, and whose they are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy import scalars
from gateway.policy.compiled import Compiled, Key
from gateway.policy.keys import ENTROPY, PREFIX, digest, key_id, minted
from gateway.policy.schema import KeyWord
from gateway.policy.tenants import user_id

Compile = Callable[[str], Compiled]


@given(st.binary(min_size=ENTROPY, max_size=ENTROPY))
def test_a_key_holds_all_its_chance_and_nothing_that_needs_quotes(entropy: bytes) -> None:
    key = minted(entropy)
    assert re.fullmatch(re.escape(PREFIX) + r"[A-Za-z0-9_-]{43}", key)
    assert minted(entropy[:-1] + bytes([entropy[-1] ^ 1])) != key


def test_a_key_of_little_chance_is_not_made() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        minted(b"x" * (ENTROPY - 1))


def test_only_the_digest_of_a_key_is_kept_and_its_id_is_the_beginning_of_it() -> None:
    kept = digest("sk-some-key")
    assert kept == hashlib.sha256(b"sk-some-key").digest()
    assert kept.hex().startswith(key_id(kept))
    assert len(key_id(kept)) == 12


def test_no_repr_shows_a_key_or_its_whole_digest() -> None:
    assert repr(KeyWord(key="sk-some-key", name="one")) == "<key 'one'>"
    kept = digest("sk-some-key")
    assert kept.hex() not in repr(Key(key_id(kept), kept))
    assert repr(kept) not in repr(Key(key_id(kept), kept))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T08:00:00Z", datetime(2027, 1, 31, 8, tzinfo=UTC)),
        ("2027-01-31t08:00:00z", datetime(2027, 1, 31, 8, tzinfo=UTC)),
        ("2027-01-31 08:00:00+08:00", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T08:00:00.5Z", datetime(2027, 1, 31, 8, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_date_or_a_time_with_its_offset(text: str, moment: datetime) -> None:
    assert scalars.moment(text) == moment.timestamp()


@pytest.mark.parametrize(
    "text", ["", "2027", "2027-1-31", "2027-13-01", "2027-01-31T08:00:00", "1999-01-01", "tomorrow", "30d", "2" * 60]
)
def test_what_is_no_moment_is_none(text: str) -> None:
    assert scalars.moment(text) is None


@given(st.integers(946_684_800, 7_258_118_399))
def test_a_moment_that_was_written_is_read_as_the_same(moment: int) -> None:
    assert scalars.moment(scalars.written(moment)) == moment


def test_a_key_may_have_a_name_and_an_end(valid: str, compile_text: Compile) -> None:
    said = '{key: "${ZETA_KEY}", name: laptop, expires: 2027-01-31}'
    zeta = compile_text(valid.replace('["${ZETA_KEY}"]', f"[{said}]")).tenants[1]
    (key,) = zeta.keys
    assert (key.digest, key.name, key.expires) == (digest("zeta-key-nobody-may-see"), "laptop", 1_801_353_600.0)
    assert key.id == key_id(key.digest)


def test_an_allow_list_holds_models_by_their_own_names(valid: str, compile_text: Compile) -> None:
    text = valid.replace("    class: interactive", "    class: interactive\n    models: [deepseek-reasoner, r2]")
    acme, zeta = compile_text(text).tenants
    assert (acme.models, zeta.models) == (frozenset({"r2"}), None)


def test_what_clouds_are_told_of_a_tenant_is_never_his_name_unless_he_is_given_one(
    valid: str, compile_text: Compile
) -> None:
    acme, zeta = compile_text(valid + "").tenants
    assert acme.user_id != zeta.user_id
    assert acme.user_id == user_id("acme")
    assert re.fullmatch(r"sg-[0-9a-f]{32}", acme.user_id)
    named = compile_text(valid.replace("    class: interactive", "    class: interactive\n    user_id: c-17"))
    assert named.tenants[0].user_id == "c-17"


def test_a_tenant_may_be_disabled(valid: str, compile_text: Compile) -> None:
    text = valid.replace("    class: interactive", "    status: disabled")
    assert [tenant.active for tenant in compile_text(text).tenants] == [False, True]
