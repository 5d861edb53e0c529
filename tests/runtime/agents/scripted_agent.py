"""An engine kind whose answers a test scripts: a function of the conversation so far."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from sundog.engines.base import (
    Capabilities,
    Chunk,
    Engine,
    EngineOptions,
    EngineOutline,
    EngineStats,
    FinishReason,
    GenerateRequest,
    Message,
    Usage,
)
from sundog.engines.tool_use import ToolCall, ToolForm
from sundog.secrets import Secrets

#: Text, or (tool, arguments) pairs; arguments that are text are sent as they are.
Answer = str | list[tuple[str, Any]] | Exception
Script = Callable[[Sequence[Message]], Answer]

PROMPT_TOKENS, OUTPUT_TOKENS = 10, 5


class Stage:
    """The script of the test, and what was asked."""

    def __init__(self) -> None:
        self.script: Script = lambda messages: "done"
        self.requests: list[GenerateRequest] = []
        #: The reason why answers that are text end.
        self.finish_reason: FinishReason = "stop"


STAGE = Stage()


class ScriptedEngine:
    async def start(self) -> None: ...

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        STAGE.requests.append(request)
        answer = STAGE.script(request.messages)
        usage = Usage(PROMPT_TOKENS, OUTPUT_TOKENS, 0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            yield Chunk(answer, STAGE.finish_reason, usage)
            return
        calls = tuple(
            # Ids of a server are random.
            ToolCall(f"x{len(STAGE.requests)}{number}", name, given if isinstance(given, str) else json.dumps(given))
            for number, (name, given) in enumerate(answer)
        )
        yield Chunk("", "tool_calls", usage, calls)

    def capabilities(self) -> Capabilities:
        return Capabilities(None, None, True, False, False)

    def stats(self) -> EngineStats:
        return EngineStats()

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        return PROMPT_TOKENS

    async def close(self) -> None: ...


class ScriptedKind:
    Options = EngineOptions

    def identity(self, options: EngineOptions) -> Mapping[str, Any]:
        return {"scripted": options.model}

    def num_replicas(self, options: EngineOptions) -> int:
        return 1

    def outline(self, options: EngineOptions) -> EngineOutline:
        def count(messages: Sequence[Message]) -> int:
            return PROMPT_TOKENS

        return EngineOutline(count, 0.0, None, None, None)

    def tool_form(self, options: EngineOptions) -> ToolForm:
        return options.tool_calls or "native"

    def open(self, options: EngineOptions, replica: int, secrets: Secrets) -> Engine:
        return ScriptedEngine()


def num_answers(messages: Sequence[Message]) -> int:
    """Return how often the model has answered in a conversation."""
    return sum(message.role == "assistant" for message in messages)


def one_by_one(*answers: Answer) -> Script:
    """Answer in this order, the last one again and again."""
    return lambda messages: answers[min(num_answers(messages), len(answers) - 1)]
