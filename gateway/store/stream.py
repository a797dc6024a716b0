"""Usage records in a Redis stream: one entry per record, appended in batches by one script call, exactly once.

A call that was not answered may have been carried out, or may be yet. Each writer numbers its batches and the script
remembers the last number, so a batch that comes again, early or late, is not written twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from gateway.store.base import StoreDown
from gateway.store.redis import connect, forbidden, shown

STREAM = "spillgate:usage"
FIELD = b"record"
TIMEOUT = 2.0
PAGE = 1000
_MARK_LIVES = 24 * 3600 * 1000
"""Milliseconds; a writer retries for as long as it lives, but no call is on its way for a day."""
_SCRIPT = (files("gateway.store") / "stream.lua").read_text("utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class UsageStream:
    """The stream, to write and to read. Keeps about `keep` records. No connection is made before it is needed."""

    def __init__(self, url: str, keep: int, timeout: float = TIMEOUT, stream: str = STREAM) -> None:
        self._url = url
        self._keep = keep
        self._timeout = timeout
        self._stream = stream
        self._mark = f"{{{stream}}}:{secrets.token_hex(6)}"  # in the stream's own hash slot
        self._client: Any = None
        self._by_hash = True

    def __repr__(self) -> str:
        return f"<UsageStream {self._stream} at {shown(self._url)}>"

    async def write(self, number: int, lines: Sequence[bytes]) -> None:
        """Append a batch; numbers must rise. Raises `StoreDown`; then the same batch may be given again."""
        arguments = (self._stream, self._mark, number, self._keep, _MARK_LIVES, *lines)
        try:
            async with asyncio.timeout(self._timeout):
                await self._call(arguments)
        except TimeoutError:
            await self.aclose()
            raise StoreDown(f"{shown(self._url)} did not answer within {self._timeout:g} s") from None
        except (RedisError, OSError) as error:
            await self.aclose()
            raise StoreDown(f"{shown(self._url)}: {type(error).__name__}: {error}") from error
        except BaseException:
            await self.aclose()
            raise

    async def read(self, since_ms: int = 0) -> AsyncIterator[bytes]:
        """Every record written since then, in the order of writing. Raises `StoreDown`."""
        client = self._connected()
        start = str(since_ms)
        try:
            while True:
                async with asyncio.timeout(self._timeout):
                    page = await client.xrange(self._stream, min=start, count=PAGE)
                for entry, fields in page:
                    if FIELD in fields:
                        yield fields[FIELD]
                    start = f"({entry.decode()}"
                if len(page) < PAGE:
                    return
        except (RedisError, OSError) as error:
            raise StoreDown(f"{shown(self._url)}: {type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                async with asyncio.timeout(self._timeout):
                    await client.aclose()
            except (RedisError, OSError):
                pass

    def _connected(self) -> Any:
        if self._client is None:
            self._client = connect(self._url, self._timeout)
        return self._client

    async def _call(self, arguments: tuple[Any, ...]) -> None:
        client = self._connected()
        if self._by_hash:
            try:
                await client.evalsha(_SHA, 2, *arguments)
            except NoScriptError:
                pass
            except RedisError as error:
                if not forbidden(error):
                    raise
                self._by_hash = False
            else:
                return
        await client.eval(_SCRIPT, 2, *arguments)
