"""One answer as bytes, in its cloud's manner of speaking: stream frames and plain JSON.

The hot call is `tokens`: one frame per choice and event, made by joining prepared pieces.
"""

from __future__ import annotations

import json

from gateway.clouds.asking import Wanted
from gateway.clouds.profiles import Profile
from gateway.clouds.tickets import Ticket

WORDS = (
    "capacity", "queue", "token", "batch", "slot", "cloud", "spill", "route", "wait", "share", "limit", "burst",
    "stream", "prefix", "cache", "decode", "prefill", "tenant", "surge", "night", "river", "lantern", "bridge", "rain",
    "模型", "排队", "算力", "请求", "溢出", "网关", "令牌", "云",
)  # fmt: skip
DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"
_FIELDS = {
    "reasoning_content": '"content":null,"reasoning_content":"{0}"',
    "reasoning": '"reasoning":"{0}"',
    "both": '"reasoning":"{0}","reasoning_content":"{0}"',
    "think": '"content":"{0}"',
}


def words(seed: int, start: int, count: int) -> str:
    """Tokens `start` … of the text that `seed` decides. Needs no escaping in JSON."""
    return "".join(
        [WORDS[((seed ^ i * 0x9E3779B1) * 0x85EBCA6B >> 17) & 31] + " " for i in range(start, start + count)]
    )


class Voice:
    """Speaks for one ticket. `request_id` becomes the answer's id; `created` is wall-clock seconds."""

    __slots__ = ("_created", "_head", "_id", "_model", "_null", "_profile", "_thought", "_ticket", "_wanted")

    def __init__(self, profile: Profile, ticket: Ticket, wanted: Wanted, request_id: str, created: int) -> None:
        self._profile, self._ticket, self._wanted = profile, ticket, wanted
        self._id, self._created, self._model = f"chatcmpl-{request_id}", created, json.dumps(wanted.model)
        self._head = (
            f'data: {{"id":"{self._id}","object":"chat.completion.chunk","created":{created},"model":{self._model},'
        )
        told = wanted.include_usage and profile.style.usage == "include"
        self._null = ',"usage":null}\n\n' if told else "}\n\n"
        self._thought = _FIELDS[profile.style.reasoning]

    # --- streamed -----------------------------------------------------------------------------------------

    def opening(self) -> bytes:
        """The role-only chunk."""
        name = self._wanted.tool
        frames = [self._frame(i, '"role":"assistant","content":""') for i in range(self._wanted.n)]
        if name and not self._ticket.thoughts:
            frames += [self._frame(i, self._call(i)) for i in range(self._wanted.n)]
        return "".join(frames).encode()

    def tokens(self, start: int, count: int) -> bytes:
        """The frames of some tokens; an event that ends the thoughts becomes two frames per choice."""
        edge = self._ticket.thoughts
        stop = start + count
        frames = []
        for index in range(self._wanted.n):
            if start < edge:
                frames.append(self._frame(index, self._think(index, start, min(stop, edge))))
            if stop > edge:
                if start <= edge and edge and self._wanted.tool:
                    frames.append(self._frame(index, self._call(index)))
                begin = max(start, edge)
                logs = self._logprobs(index, begin, stop) if self._wanted.logprobs else ""
                frames.append(self._frame(index, self._say(index, begin, stop), logs))
        return "".join(frames).encode()

    def tells(self, reason: str) -> bool:
        """Whether the last words of this answer speak of its usage."""
        said = self._profile.style.usage
        if not self._wanted.stream:
            return said != "absent"
        return bool(reason) and (said in {"finish", "always"} or (said == "include" and self._wanted.include_usage))

    def finish(self, reason: str) -> bytes:
        """The last frames. An empty reason: nothing but [DONE]."""
        if not reason:
            return DONE
        style, wanted = self._profile.style, self._wanted
        extra = ',"base_resp":{"status_code":0,"status_msg":""}' if self._profile.dialect == "minimax" else ""
        frames = []
        for index in range(wanted.n):
            usage = f',"usage":{self._usage()}' if style.usage == "finish" and index == wanted.n - 1 else ""
            choice = f'"choices":[{{"index":{index},"delta":{{}},"finish_reason":"{self._reason(reason)}"}}]'
            frames.append(f"{self._head}{choice}{usage}{extra}}}\n\n")
        if style.usage == "always" or (style.usage == "include" and wanted.include_usage):
            frames.append(f'{self._head}"choices":[],"usage":{self._usage()}}}\n\n')
        return "".join(frames).encode() + DONE

    def _frame(self, index: int, delta: str, logprobs: str = "") -> str:
        choice = f'{{"index":{index},"delta":{{{delta}}}{logprobs},"finish_reason":null}}'
        return f'{self._head}"choices":[{choice}]{self._null}'

    def _think(self, index: int, start: int, stop: int) -> str:
        if self._profile.style.cumulative:
            start = 0
        text = words(self._wanted.seed + index, start, stop - start)
        if self._profile.style.reasoning == "think" and start == 0:
            text = "<think>\\n" + text
        return self._thought.format(text)

    def _say(self, index: int, start: int, stop: int) -> str:
        ticket, style = self._ticket, self._profile.style
        first = ticket.thoughts
        if self._wanted.tool:
            piece = json.dumps(self._arguments(index, start, stop))
            return f'"tool_calls":[{{"index":0,"function":{{"arguments":{piece}}}}}]'
        if not style.cumulative:
            text = words(self._wanted.seed + index, start, stop - start)
            lead = "\\n</think>\\n\\n" if style.reasoning == "think" and first and start == first else ""
            return f'"content":"{lead}{text}"'
        text = words(self._wanted.seed + index, first, stop - first)
        if style.reasoning == "think" and first:
            text = f"<think>\\n{words(self._wanted.seed + index, 0, first)}\\n</think>\\n\\n{text}"
        return f'"content":"{text}"'

    # --- tools --------------------------------------------------------------------------------------------

    def _call(self, index: int) -> str:
        name = json.dumps(self._wanted.tool)
        call = (
            f'"id":"call_{self._wanted.seed + index:08x}","type":"function","function":{{"name":{name},"arguments":""}}'
        )
        return f'"tool_calls":[{{"index":0,{call}}}]'

    def _arguments(self, index: int, start: int, stop: int) -> str:
        """A piece of `{"text": "…"}`: all pieces joined are valid JSON."""
        lead = '{"text": "' if start == self._ticket.thoughts else ""
        tail = '"}' if stop == self._ticket.length else ""
        return lead + words(self._wanted.seed + index, start, stop - start) + tail

    # --- not streamed -------------------------------------------------------------------------------------

    def whole(self, reason: str) -> bytes:
        """The plain JSON answer."""
        answer: dict[str, object] = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._wanted.model,
            "choices": [self._choice(index, reason) for index in range(self._wanted.n)] if reason else [],
        }
        if self._profile.style.usage != "absent":
            answer["usage"] = json.loads(self._usage())
        if self._profile.dialect == "minimax":
            answer["base_resp"] = {"status_code": 0, "status_msg": ""}
        return json.dumps(answer, ensure_ascii=False).encode()

    def _choice(self, index: int, reason: str) -> dict[str, object]:
        ticket, wanted, style = self._ticket, self._wanted, self._profile.style
        edge = min(ticket.thoughts, ticket.produced)
        seed = wanted.seed + index
        thought, said = words(seed, 0, edge), words(seed, edge, ticket.produced - edge)
        message: dict[str, object] = {"role": "assistant", "content": said}
        if wanted.tool:
            function = {"name": wanted.tool, "arguments": self._arguments(index, ticket.thoughts, ticket.length)}
            message["content"] = None
            message["tool_calls"] = [{"id": f"call_{seed:08x}", "type": "function", "function": function}]
        if thought and style.reasoning == "think":
            message["content"] = f"<think>\n{thought}\n</think>\n\n{'' if wanted.tool else said}"
        elif thought:
            names = ("reasoning", "reasoning_content") if style.reasoning == "both" else (style.reasoning,)
            message |= dict.fromkeys(names, thought)
        choice: dict[str, object] = {"index": index, "message": message, "finish_reason": self._reason(reason)}
        if wanted.logprobs and not wanted.tool:
            logs = "{" + self._logprobs(index, edge, ticket.produced)[1:] + "}"
            choice |= json.loads(logs)
        return choice

    # --- both ---------------------------------------------------------------------------------------------

    def _reason(self, reason: str) -> str:
        if reason != "stop":
            return reason
        return "tool_calls" if self._wanted.tool else self._profile.style.finish

    def _logprobs(self, index: int, start: int, stop: int) -> str:
        content = []
        for i in range(start, stop):
            word = words(self._wanted.seed + index, i, 1)
            bits = list(word.encode())
            content.append({"token": word, "logprob": -0.01 * (i % 50 + 1), "bytes": bits, "top_logprobs": []})
        return f',"logprobs":{json.dumps({"content": content}, ensure_ascii=False)}'

    def _usage(self) -> str:
        ticket, cached = self._ticket, self._profile.style.cached
        prompt, out = ticket.ask.prompt, ticket.produced * ticket.ask.n
        usage: dict[str, object] = {"prompt_tokens": prompt, "completion_tokens": out, "total_tokens": prompt + out}
        if cached != "openai":
            usage |= {"prompt_cache_hit_tokens": ticket.cached, "prompt_cache_miss_tokens": prompt - ticket.cached}
        if cached != "deepseek":
            usage["prompt_tokens_details"] = {"cached_tokens": ticket.cached}
        if ticket.thoughts:
            thought = min(ticket.thoughts, ticket.produced) * ticket.ask.n
            usage["completion_tokens_details"] = {"reasoning_tokens": thought}
        return json.dumps(usage)
