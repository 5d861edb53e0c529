"""The conformance suite of engines: a test module subclasses it and says how to open its engine.

The engine is started once per class; answers are compared with the engine's own, never with a fixed text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import jsonschema
import pytest

from sundog.engines.base import Chunk, Engine, EngineOptions, GenerateRequest, Message, PartsKind, Usage
from sundog.engines.message_parts import ImagePart, TextPart
from sundog.engines.structured.tool_form import constrained_messages, constrained_schema, read_constrained
from sundog.engines.tool_use import ToolCall, ToolChoice, ToolSchema
from sundog.errors import BadResponse, EngineError, EngineUnavailable, PromptTooLong
from sundog.secrets import Secrets

T = TypeVar("T")

TOOLS = (
    ToolSchema(
        "look_up",
        "Look up an order.",
        json.dumps(
            {
                "type": "object",
                "properties": {"order": {"type": "integer", "minimum": 1, "maximum": 99}},
                "required": ["order"],
                "additionalProperties": False,
            }
        ),
    ),
    ToolSchema(
        "tell",
        "Tell the customer.",
        json.dumps(
            {
                "type": "object",
                "properties": {"tone": {"enum": ["warm", "plain"]}, "is_last": {"type": "boolean"}},
                "required": ["tone", "is_last"],
                "additionalProperties": False,
            }
        ),
    ),
    ToolSchema("pause", "Wait a day.", json.dumps({"type": "object", "properties": {}})),
)

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "verdict": {"type": "string", "enum": ["fine", "unclear", "not fine"]},
            "num_clauses": {"type": "integer", "minimum": 0, "maximum": 250},
            "is_final": {"type": "boolean"},
            "reason": {"type": "string", "maxLength": 20},
            "names": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"part": {"type": "integer", "minimum": 1, "maximum": 99}},
                    "required": ["part"],
                    "additionalProperties": False,
                },
                "minItems": 1,
                "maxItems": 2,
            },
        },
        "required": ["verdict", "num_clauses", "is_final", "reason", "names"],
        "additionalProperties": False,
    }
)


@dataclass(frozen=True)
class Answer:
    chunks: list[Chunk]

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def usage(self) -> Usage:
        usage = self.chunks[-1].usage
        assert usage is not None
        return usage


def ask_for(text: str, request_id: str = "request", **fields: Any) -> GenerateRequest:
    return GenerateRequest(request_id, (Message("system", "You are brief."), Message("user", text)), **fields)


async def collect(engine: Engine, request: GenerateRequest) -> Answer:
    return Answer([chunk async for chunk in engine.generate(request)])


def check_call(call: ToolCall) -> None:
    tools = {tool.name: tool for tool in TOOLS}
    jsonschema.validate(json.loads(call.arguments), json.loads(tools[call.name].parameters))


class Started:
    """An engine that has been started, and the event loop it lives on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._runner = asyncio.Runner()
        try:
            self.run(engine.start())
        except BaseException:
            self._runner.close()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def ask(self, text: str, **fields: Any) -> Answer:
        return self.run(collect(self.engine, ask_for(text, **fields)))

    def close(self) -> None:
        self.run(self.engine.close())
        self._runner.close()


class OpenedEngine:
    """The engine of a suite, started once for a class."""

    # Any: a kind narrows the type of its options, which mypy does not accept for an attribute of a protocol.
    kind: Any
    #: True where count_prompt_tokens is exact.
    counts_exactly = True

    @classmethod
    def options(cls) -> EngineOptions:
        raise NotImplementedError

    @classmethod
    def open(cls) -> Engine:
        engine: Engine = cls.kind.open(cls.options(), 0, Secrets({}))
        return engine

    @pytest.fixture(scope="class")
    @classmethod
    def started(cls) -> Iterator[Started]:
        started = Started(cls.open())
        yield started
        started.close()


class EngineConformance(OpenedEngine):
    # Tokens enough for an answer of SCHEMA.
    schema_tokens = 200
    #: False where the model's context is too small for the list of tools in a prompt.
    has_room_for_tools = True
    #: False where the model behind a server that takes pictures reads text only.
    model_sees_pictures = True

    def test_only_the_last_chunk_has_finish_reason_and_usage(self, started: Started) -> None:
        chunks = started.ask("Say hello.", max_tokens=16).chunks
        assert chunks[-1].finish_reason in {"stop", "length"}
        assert chunks[-1].usage is not None
        assert [(chunk.finish_reason, chunk.usage) for chunk in chunks[:-1]] == [(None, None)] * (len(chunks) - 1)

    def test_usage_adds_up_in_the_counters(self, started: Started) -> None:
        before = started.engine.stats()
        usages = [started.ask(f"Name a city, number {i}.", max_tokens=8).usage for i in range(3)]
        after = started.engine.stats()
        assert all(usage.num_prompt_tokens > 0 and 0 < usage.num_output_tokens <= 8 for usage in usages)
        assert all(0 <= (usage.num_cached_tokens or 0) <= usage.num_prompt_tokens for usage in usages)
        assert after.num_requests - before.num_requests == 3
        assert after.num_prompt_tokens - before.num_prompt_tokens == sum(usage.num_prompt_tokens for usage in usages)
        assert after.num_output_tokens - before.num_output_tokens == sum(usage.num_output_tokens for usage in usages)
        assert after.num_cached_tokens - before.num_cached_tokens == sum(u.num_cached_tokens or 0 for u in usages)
        assert after.num_running == 0

    def test_prompt_tokens_are_counted_before_as_after(self, started: Started) -> None:
        request = ask_for("How many tokens are these?", max_tokens=4)
        counted = started.engine.count_prompt_tokens(request)
        used = started.run(collect(started.engine, request)).usage.num_prompt_tokens
        assert counted == used if self.counts_exactly else counted > 0
        outline = self.kind.outline(self.options())
        assert outline.count(request.messages) == counted, "the same without a running engine"
        assert self.counts_exactly or outline.count_error > 0

    def test_pictures_are_counted_and_decide_the_answer(self, started: Started) -> None:
        if not isinstance(self.kind, PartsKind) or "image" not in self.kind.part_kinds(self.options()):
            pytest.skip("these engines take text only")
        requests = [
            GenerateRequest("r", (Message("user", "", (TextPart("What is it?"), ImagePart(sha256=key, size=size))),))
            for key, size in (("ab" * 32, (100, 100)), ("cd" * 32, (100, 100)), ("ab" * 32, (2000, 2000)))
        ]
        small, _, large = (started.engine.count_prompt_tokens(request) for request in requests)
        assert started.engine.count_prompt_tokens(ask_for("What is it?")) + 200 < small + 100 < large
        if not self.model_sees_pictures:
            with pytest.raises(BadResponse):
                started.run(collect(started.engine, requests[0]))
            return
        one, other = (started.run(collect(started.engine, request)) for request in requests[:2])
        assert one.usage.num_prompt_tokens > 0
        assert one.text != other.text or not self.counts_exactly

    def test_a_greedy_request_has_one_answer(self, started: Started) -> None:
        # The first one warms the prefix cache: what an engine computes anew may differ in the last bit.
        answers = [started.ask("Tell me of the sea.", max_tokens=24).text for _ in range(3)]
        assert answers[1] == answers[2] != ""

    def test_other_prompts_have_other_answers(self, started: Started) -> None:
        assert started.ask("Tell me of the sea.", max_tokens=24) != started.ask("Count to nine.", max_tokens=24)

    def test_many_at_once_all_end(self, started: Started) -> None:
        async def ask_all() -> list[Answer]:
            requests = [ask_for(f"Tell me of {i} ships.", f"r{i}", max_tokens=6) for i in range(24)]
            return await asyncio.gather(*(collect(started.engine, request) for request in requests))

        answers = started.run(ask_all())
        assert [answer.chunks[-1].finish_reason is not None for answer in answers] == [True] * 24
        assert started.engine.stats().num_running == 0

    def test_a_stop_string_ends_the_answer_and_stays_out(self, started: Started) -> None:
        started.ask("Tell me of the sea.", max_tokens=24)
        whole = started.ask("Tell me of the sea.", max_tokens=24).text
        stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
        answer = started.ask("Tell me of the sea.", max_tokens=24, stop=(stop, "never to be found"))
        assert answer.text == whole.partition(stop)[0]
        assert answer.chunks[-1].finish_reason == "stop"

    def test_max_tokens_is_obeyed(self, started: Started) -> None:
        answer = started.ask("Tell me a very long story.", max_tokens=4)
        assert answer.usage.num_output_tokens <= 4
        assert answer.chunks[-1].finish_reason == "length"

    def test_a_schema_is_satisfied(self, started: Started) -> None:
        for i in range(3):
            text = started.ask(f"Judge licence {i} as JSON.", max_tokens=self.schema_tokens, json_schema=SCHEMA).text
            jsonschema.validate(json.loads(text), json.loads(SCHEMA))

    def test_a_tool_is_called(self, started: Started) -> None:
        self.need_room_for_tools()
        for i in range(4):
            messages = (Message("user", f"Where is order {i}?" + "!" * i),)
            (call,) = self.calls_of(started, messages, "required")
            check_call(call)

    def test_the_result_of_a_tool_goes_on(self, started: Started) -> None:
        self.need_room_for_tools()
        asked = (Message("system", "You are brief."), Message("user", "Where is order 3?"))
        made = ToolCall("call_1_0", "look_up", '{"order":3}')
        told = (Message("assistant", "", tool_calls=(made,)), Message("tool", "[]", tool_call_id="call_1_0"))
        for call in self.calls_of(started, (*asked, *told), "auto"):
            check_call(call)

    def test_constrained_calls_are_schema_valid(self, started: Started) -> None:
        self.need_room_for_tools()
        schema = constrained_schema(TOOLS, "auto", SCHEMA)
        for i in range(3):
            messages = constrained_messages((Message("user", f"Judge licence {i}."),), TOOLS)
            request = GenerateRequest("r", messages, max_tokens=self.schema_tokens, json_schema=schema)
            text = started.run(collect(started.engine, request)).text
            jsonschema.validate(json.loads(text), json.loads(schema))
            answer = read_constrained(text)
            if answer.call is None:
                jsonschema.validate(json.loads(answer.text), json.loads(SCHEMA))
            else:
                check_call(answer.call)

    def need_room_for_tools(self) -> None:
        if not self.has_room_for_tools:
            pytest.skip("the context of the test's model is too small for a list of tools")

    def calls_of(self, started: Started, messages: tuple[Message, ...], choice: ToolChoice) -> tuple[ToolCall, ...]:
        """Return the calls of one answer, in the form in which this engine calls tools."""
        if self.kind.tool_form(self.options()) == "native":
            request = GenerateRequest("r", messages, max_tokens=64, tools=TOOLS, tool_choice=choice)
            chunks = started.run(collect(started.engine, request)).chunks
            assert all(not chunk.tool_calls for chunk in chunks[:-1])
            assert chunks[-1].finish_reason == "tool_calls" or not chunks[-1].tool_calls
            return chunks[-1].tool_calls
        schema, plain = constrained_schema(TOOLS, choice, None), constrained_messages(messages, TOOLS)
        answer = started.run(collect(started.engine, GenerateRequest("r", plain, max_tokens=64, json_schema=schema)))
        call = read_constrained(answer.text).call
        return () if call is None else (call,)

    def test_an_aborted_request_frees_its_place(self, started: Started) -> None:
        async def abort_after_the_first_chunk() -> int:
            generator = started.engine.generate(ask_for("Tell me a very long story.", max_tokens=64))
            await anext(generator)
            num_running = started.engine.stats().num_running
            await generator.aclose()
            return num_running

        assert started.run(abort_after_the_first_chunk()) == 1
        assert started.engine.stats().num_running == 0
        assert started.ask("Say hello.", max_tokens=4).usage.num_output_tokens > 0

    def test_a_cancelled_task_frees_its_place(self, started: Started) -> None:
        async def cancel() -> None:
            task = asyncio.ensure_future(collect(started.engine, ask_for("Tell me a long story.", max_tokens=64)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        started.run(cancel())
        assert started.engine.stats().num_running == 0
        assert started.ask("Say hello.", max_tokens=4).usage.num_output_tokens > 0

    def test_a_prompt_beyond_the_context_is_refused(self, started: Started) -> None:
        max_tokens = started.engine.capabilities().max_context_tokens
        if max_tokens is None:
            pytest.skip("this engine has no limit")
        with pytest.raises(PromptTooLong) as caught:
            started.ask("word " * (max_tokens + 1), max_tokens=4)
        assert not caught.value.retryable
        assert started.engine.stats().num_running == 0

    def test_text_that_is_no_utf8_is_at_worst_an_engine_error(self, started: Started) -> None:
        with contextlib.suppress(EngineError):
            started.ask("half a character: \ud83d", max_tokens=4)

    def test_without_start_there_is_no_answer_and_close_is_idempotent(self) -> None:
        async def use() -> None:
            engine = self.open()
            with pytest.raises(EngineUnavailable):
                await collect(engine, ask_for("Say hello."))
            await engine.close()
            await engine.close()
            with pytest.raises(EngineUnavailable):
                await collect(engine, ask_for("Say hello."))

        asyncio.run(use())

    def test_identity_is_of_the_answers_only(self) -> None:
        options = self.options()
        other = options.model_copy(update={"max_concurrency": options.max_concurrency + 1, "max_tokens_in_flight": 7})
        assert json.loads(json.dumps(self.kind.identity(options))) == self.kind.identity(other)
        assert options.max_concurrency not in self.kind.identity(options).values()
