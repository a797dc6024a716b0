"""Keys that tenants show: what they look like, and the one thing that is kept of them.

Only the SHA-256 of a key is kept. That is right for keys that were drawn at random with 128 bits or more: there is
nothing to guess, so a slow password hash would protect nothing and would cost every request. It is not right for keys
that people thought up; `minted` makes good ones.

Keys are looked up by their digest in a dictionary. The time this takes can depend on the digest, but a caller cannot
choose digests: to learn anything by timing he would have to find inputs whose SHA-256 begins as he likes, for a table
whose hashing is seeded anew in every process.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode

PREFIX = "sk-spill-"
ENTROPY = 32
"""Bytes of chance in a key."""

_ID = 12


def minted(entropy: bytes) -> str:
    """A new key from `ENTROPY` bytes of a generator that is fit for secrets. Raises `ValueError` for fewer."""
    if len(entropy) < ENTROPY:
        raise ValueError(f"a key needs {ENTROPY} bytes of chance")
    return PREFIX + urlsafe_b64encode(entropy).rstrip(b"=").decode()


def digest(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def key_id(digest: bytes) -> str:
    """What people, logs and records call a key: enough of its digest to tell it from all others, of no use as a key."""
    return digest.hex()[:_ID]
