"""Providers that know their schema and nothing else: what `terraform validate` and `terraform test` need, offline.

One process serves every provider on its own socket, and Terraform is told of them by `TF_REATTACH_PROVIDERS`. They
know what arguments exist (`schemas/*.json`), and refuse values outside the ranges that the clouds document. They create
nothing: a plan says "known after apply" for what only a cloud can know, and an apply without `mock_provider` fails.

This is as much of Terraform's plugin protocol, version 6 (docs/plugin-protocol in its repository), as is needed; the
numbers below are the fields' numbers there. The messages are few, so they are written and read by hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec

from tests.terraform import ranges
from tests.terraform.schema import Block, Provider

_NESTING = {"single": 1, "list": 2, "set": 3}
_ERROR = 1
_UNKNOWN = msgspec.msgpack.Ext(0, b"")
Value = int | str | bytes


def message(*fields: tuple[int, Value]) -> bytes:
    """A message in protobuf's wire format: numbers as varints, everything else with its length in front."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(_varint(number << 3) + _varint(value))
        else:
            data = value.encode() if isinstance(value, str) else value
            parts.append(_varint(number << 3 | 2) + _varint(len(data)) + data)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def fields(data: bytes) -> dict[int, Any]:
    """The fields of a message by their numbers; the last one where there are several."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(data):
        key, at = _read(data, at)
        value, at = _read(data, at)
        if key & 7 == 2:
            at += value
            found[key >> 3] = data[at - value : at]
        else:
            found[key >> 3] = value
    return found


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _schema(block: Block) -> bytes:
    return message((2, _block(block)))


def _block(block: Block) -> bytes:
    attributes = [
        message(
            (1, name),
            (2, json.dumps(a.type)),
            (4, int(a.required)),
            (5, int(not a.required and not a.exported)),
            (6, int(a.computed or a.exported)),
            (7, int(a.sensitive)),
        )
        for name, a in block.attributes.items()
    ]
    blocks = [
        message((1, name), (2, _block(b.block)), (3, _NESTING[b.nesting]), (4, int(b.required)), (5, int(b.single)))
        for name, b in block.blocks.items()
    ]
    return message(*((2, each) for each in attributes), *((3, each) for each in blocks))


def _error(summary: str, detail: str = "") -> bytes:
    return message((1, _ERROR), (2, summary), (3, detail))


class Stub:
    """One provider, by the names that the protocol gives its calls. Whatever else is called is not implemented."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        entries = (message((1, name), (2, _schema(block))) for name, block in provider.resources.items())
        self._schema = message((1, _schema(provider.configuration)), *((2, entry) for entry in entries))

    def calls(self) -> dict[str, Callable[[bytes], bytes]]:
        return {
            "GetProviderSchema": lambda _: self._schema,
            "ValidateProviderConfig": lambda _: b"",
            "ConfigureProvider": lambda _: b"",
            "ValidateResourceConfig": self._validate,
            "UpgradeResourceState": lambda request: message((1, message((2, fields(fields(request)[3])[1])))),
            "PlanResourceChange": self._plan,
            "ApplyResourceChange": lambda _: message((3, _error("This is a stand-in: it creates nothing."))),
            "StopProvider": lambda _: b"",
        }

    def _validate(self, request: bytes) -> bytes:
        asked = fields(request)
        config = msgspec.msgpack.decode(fields(asked[2])[1], ext_hook=lambda *_: None)
        wrong = ranges.outside(self._provider.resources[asked[1].decode()], config)
        return message(*((1, _error("Outside the documented range", text)) for text in wrong))

    def _plan(self, request: bytes) -> bytes:
        asked = fields(request)
        proposed = msgspec.msgpack.decode(fields(asked[3])[1], ext_hook=msgspec.msgpack.Ext)
        for name, attribute in self._provider.resources[asked[1].decode()].attributes.items():
            if proposed is not None and (attribute.computed or attribute.exported) and proposed.get(name) is None:
                proposed[name] = _UNKNOWN
        return message((1, message((1, msgspec.msgpack.encode(proposed)))))


def _handler(call: Callable[[bytes], bytes]) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(lambda request, context: call(request))


@contextmanager
def serving(providers: list[Provider], folder: Path) -> Iterator[str]:
    """Serve `providers` on sockets in `folder`; yields the value of `TF_REATTACH_PROVIDERS`."""
    servers, attached = [], {}
    for provider in providers:
        server = grpc.server(ThreadPoolExecutor(max_workers=8))
        handlers = {name: _handler(call) for name, call in Stub(provider).calls().items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin6.Provider", handlers),))
        socket = folder / f"{provider.address.replace('/', '-')}.sock"
        server.add_insecure_port(f"unix://{socket}")
        server.start()
        servers.append(server)
        attached[f"registry.terraform.io/{provider.address}"] = {
            "Protocol": "grpc",
            "ProtocolVersion": 6,
            "Pid": os.getpid(),
            "Test": True,
            "Addr": {"Network": "unix", "String": str(socket)},
        }
    try:
        yield json.dumps(attached)
    finally:
        for server in servers:
            server.stop(grace=None).wait()
