"""An engine kind whose answers a test scripts: a function of the conversation so far."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from sundog.engines.base import (
    Capabilities,
    Chunk,
    Engine,
    EngineOptions,
    FinishReason,
    GenerateRequest,
    Message,
    Usage,
)
from sundog.engines.tool_use import ToolCall, ToolForm
from sundog.secrets import Secrets
from tests.engines.plain_engine import PROMPT_TOKENS, PlainEngine, PlainKind

#: Text, or (tool, arguments) pairs; arguments that are text are sent as they are.
Answer = str | list[tuple[str, Any]] | Exception
Script = Callable[[Sequence[Message]], Answer]

OUTPUT_TOKENS = 5


class Stage:
    """The script of the test, and what was asked."""

    def __init__(self) -> None:
        self.script: Script = lambda messages: "done"
        self.requests: list[GenerateRequest] = []
        #: The reason why answers that are text end; with "length" those that are calls are cut off too.
        self.finish_reason: FinishReason = "stop"
        #: The engine is told what the run knows of each call.
        self.reads_about = False


STAGE = Stage()


class ScriptedEngine(PlainEngine):
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
        yield Chunk("", "length" if STAGE.finish_reason == "length" else "tool_calls", usage, calls)

    def capabilities(self) -> Capabilities:
        return Capabilities(None, None, True, False, False, reads_about=STAGE.reads_about)


class ScriptedKind(PlainKind):
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


def told(row: Any) -> list[str]:
    """Return what the tools told in a row whose output `said` is the conversation."""
    return [message["content"] for message in row["said"] if message["role"] == "tool"]


def found_steps(value: Any) -> list[Any]:
    """Return every mapping of a document that has a name and an estimate."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, dict) and {"name", "estimate"} <= value.keys() else []
    return own + [step for one in inner for step in found_steps(one)]
