"""One pretend cloud on one port: requests to the model, its events back to the sockets, one timer for all of it."""

from __future__ import annotations

import asyncio
import time
from random import Random

from gateway.clouds import asking, voice
from gateway.clouds.asking import Wanted
from gateway.clouds.http import Call, Connection, Headers
from gateway.clouds.model import Cloud
from gateway.clouds.profiles import Profile
from gateway.clouds.refusals import failure, refuse
from gateway.clouds.tickets import Event, Kind, Refused, Ticket
from gateway.clouds.voice import Voice

SLACK = 0.001
"""Seconds by which an event may be early: timers have about this grain, and what is due together leaves together."""

_STREAM = ("content-type", "text/event-stream; charset=utf-8")
_JSON = ("content-type", "application/json")


class Talk:
    """One admitted request on its connection."""

    __slots__ = ("connection", "headers", "opened", "ticket", "voice", "wanted")

    def __init__(self, connection: Connection, ticket: Ticket, wanted: Wanted, said: Voice, headers: Headers) -> None:
        self.connection = connection
        self.ticket = ticket
        self.wanted = wanted
        self.voice = said
        self.headers = headers
        self.opened = False

    def write(self, data: bytes) -> None:
        """Bytes of the body; the first ones bring the status line along."""
        if self.connection.begun:
            self.connection.send(data)
        else:
            self.connection.begin(self.headers, data)

    def opening(self) -> bytes:
        if self.opened:
            return b""
        self.opened = True
        return self.voice.opening()


class CloudSite:
    """Answers for one cloud. `seed` decides its chances and, alone, the text of its answers."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile = profile
        self.connections: set[Connection] = set()
        self._seed = seed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = float("inf")
        self._served = 0
        self._talks: dict[int, Talk] = {}
        self._by_connection: dict[Connection, Talk] = {}
        self.cloud = self._fresh(profile)

    def _fresh(self, profile: Profile) -> Cloud:
        return Cloud(profile, Random(f"{self._seed}:{profile.name}"))

    # --- from the sockets -----------------------------------------------------------------------------------

    def handle(self, call: Call, connection: Connection) -> None:
        """Answer one request."""
        self._served += 1
        request_id = f"{self.profile.name}-{self._served:08d}"
        profile = self.cloud.profile
        if call.path.endswith("/models") and call.method == "GET":
            self._models(call, connection, request_id)
        elif not call.path.endswith("/chat/completions"):
            connection.reply(404, (_JSON,), b'{"error":{"message":"no such route","type":"invalid_request_error"}}')
        elif call.method != "POST":
            connection.reply(405, (_JSON, ("allow", "POST")), b'{"error":{"message":"use POST"}}')
        elif profile.key and call.headers.get("authorization") != f"Bearer {profile.key}":
            self._turn_away("auth", connection, request_id)
        else:
            self._chat(call, connection, request_id)

    def left(self, connection: Connection) -> None:
        """The client is gone: its slot is free now, not at the next write."""
        talk = self._by_connection.pop(connection, None)
        if talk is not None:
            del self._talks[talk.ticket.id]
            self.cloud.leave(talk.ticket, self._loop.time())
            self._arm()

    def _chat(self, call: Call, connection: Connection, request_id: str) -> None:
        cloud, now = self.cloud, self._loop.time()
        try:
            ask, wanted = asking.read(call.body, self._seed)
        except ValueError:
            self._turn_away("invalid", connection, request_id)
            return
        if wanted.model not in cloud.profile.models:
            self._turn_away("not_found", connection, request_id)
            return
        answer = cloud.arrive(ask, now)
        if isinstance(answer, Refused):
            self._refuse(answer, connection, request_id)
            return
        said = Voice(cloud.profile, answer.ticket, wanted, request_id, int(time.time()))
        headers = (_STREAM if wanted.stream else _JSON, ("x-request-id", request_id), *self._rates(now))
        talk = Talk(connection, answer.ticket, wanted, said, headers)
        self._talks[answer.ticket.id] = self._by_connection[connection] = talk
        self._arm()

    def _models(self, call: Call, connection: Connection, request_id: str) -> None:
        profile = self.cloud.profile
        if profile.key and call.headers.get("authorization") != f"Bearer {profile.key}":
            self._refuse(Refused("auth"), connection, request_id)
            return
        listed = ",".join(
            f'{{"id":"{model}","object":"model","created":0,"owned_by":"{profile.name}"}}' for model in profile.models
        )
        connection.reply(200, (_JSON,), f'{{"object":"list","data":[{listed}]}}'.encode())

    def _turn_away(self, kind: Kind, connection: Connection, request_id: str) -> None:
        self._refuse(self.cloud.turn_away(kind, self._loop.time()), connection, request_id)

    def _refuse(self, refused: Refused, connection: Connection, request_id: str) -> None:
        if refused.kind == "crash":
            connection.abort()
            return
        profile = self.cloud.profile
        refusal = refuse(profile.dialect, refused, profile.style, request_id)
        connection.reply(refusal.status, (*refusal.headers, *self._rates(self._loop.time())), refusal.body)

    def _rates(self, now: float) -> Headers:
        """Rate-limit headers, where this cloud sends any."""
        profile = self.cloud.profile
        if profile.style.rate_headers == "none":
            return ()
        used, limits = self.cloud.used(now), profile.limits
        if profile.style.rate_headers == "modelscope":
            pairs = [
                ("modelscope-ratelimit-requests-", profile.daily, "daily"),
                ("modelscope-ratelimit-model-requests-", profile.daily, "daily"),
            ]
            return tuple(
                (f"{name}{part}", str(value))
                for name, limit, kind in pairs
                if limit is not None
                for part, value in (("limit", limit), ("remaining", max(0, limit - used[kind])))
            )
        return tuple(
            (f"x-ratelimit-{part}-{what}", str(value))
            for what, limit, kind in (("requests", limits.rpm, "rpm"), ("tokens", limits.tpm, "tpm"))
            if limit is not None
            for part, value in (("limit", limit), ("remaining", max(0, limit - used[kind])))
        )

    # --- from the model -------------------------------------------------------------------------------------

    def change(self, profile: Profile) -> None:
        """The cloud is different from now on."""
        events = self.cloud.change(profile, self._loop.time())
        if profile.fail == "crash":
            self.hang_up()
        else:
            self._deliver(events)
        self._arm()

    def reset(self) -> None:
        """Forget everything; whoever is connected is torn off."""
        self._talks.clear()
        self._by_connection.clear()
        self.hang_up()
        self.cloud = self._fresh(self.profile)
        self._arm()

    def hang_up(self) -> None:
        """Reset every connection."""
        for connection in list(self.connections):
            connection.abort()

    def close(self) -> None:
        self.hang_up()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        due = self.cloud.next_due()
        at = float("inf") if due is None else due
        if at == self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = at
        self._timer = None if due is None else self._loop.call_at(at, self._pump)

    def _pump(self) -> None:
        self._armed = float("inf")
        self._timer = None
        self._deliver(self.cloud.due(self._loop.time() + SLACK))
        self._arm()

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            talk = self._talks.get(event.ticket.id)
            if talk is None:
                continue
            if event.ends:
                del self._talks[event.ticket.id]
                self._by_connection.pop(talk.connection, None)
            if event.kind == "finish" and talk.voice.tells(event.reason):
                self.cloud.tell(event.ticket)
            if talk.wanted.stream:
                self._stream(talk, event)
            else:
                self._plain(talk, event)

    def _stream(self, talk: Talk, event: Event) -> None:
        match event.kind:
            case "tokens":
                talk.write(talk.opening() + talk.voice.tokens(event.start, event.count))
            case "keepalive":
                talk.write(voice.COMMENT)
            case "stall":
                talk.write(talk.opening())
            case "cut":
                talk.connection.cut()
            case "error":
                frame = b"data: " + failure(self.cloud.profile.dialect, f"{self.profile.name}-{self._served:08d}")
                talk.write(frame + b"\n\n" + voice.DONE)
                talk.connection.end()
            case "finish":
                opening = talk.opening() if event.reason else b""
                talk.write(opening + talk.voice.finish(event.reason))
                talk.connection.end()

    def _plain(self, talk: Talk, event: Event) -> None:
        match event.kind:
            case "tokens" | "stall":
                pass
            case "keepalive":
                talk.write(b"\n")
            case "cut":
                talk.connection.cut()
            case "error" if not talk.connection.begun:
                self._refuse(Refused("server"), talk.connection, f"{self.profile.name}-{self._served:08d}")
            case "error" | "finish":
                dialect, done = self.cloud.profile.dialect, event.kind == "finish"
                body = talk.voice.whole(event.reason) if done else failure(dialect, self.profile.name)
                if talk.connection.begun:
                    talk.connection.end(body)
                else:
                    talk.connection.reply(200, talk.headers, body)
