"""Dialects without I/O: bytes to meaning and back. Never imports asyncio, time, os or socket."""
