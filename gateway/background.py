"""Tasks that run beside the requests: if one breaks it is told, and when it is ended it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from logging import Logger

AGAIN = 1.0
"""Seconds after which a task that has not ended is cancelled again: longer than a connection takes to be closed."""


def begin(work: Coroutine[None, None, None], log: Logger, broken: str) -> asyncio.Task[None]:
    """Start a task on this loop. `broken` is logged, with the traceback, if it ends by an exception."""

    def tell(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(broken, exc_info=error)

    task = asyncio.create_task(work)
    task.add_done_callback(tell)
    return task


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel, and again: on Python 3.11 a `wait_for` (redis-py has some) loses a cancellation that meets its answer."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)
