"""The llm step: requests as written, answers as parsed, streams closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.base import Capabilities, Chunk, EngineStats, FinishReason, GenerateRequest, Message, Usage
from sundog.engines.tool_use import ToolCall
from sundog.errors import BadResponse, EngineOverloaded, FlowError, OperatorError
from sundog.ir.logical import EngineBlock
from sundog.ir.physical import Sharing
from sundog.ir.schemas.shape import Anything, Record, Scalar
from sundog.ir.templates.environment import SKIPPED
from sundog.ir.templates.template import SAMPLE
from sundog.operators.base import BoundCall
from sundog.operators.llm import LLMOperator, LLMSpec
from sundog.secrets import Secrets

from .conformance import Case, Context, OperatorConformance, Subject

IDENTITY = {"kind": "scripted", "model": "m"}
USAGE = Usage(3, 2, 1)


class ScriptedEngine:
    """Answers with the last message in two chunks; "never" blocks after the first, "busy" fails."""

    def __init__(self, answer: str | None = None, finish_reason: FinishReason | None = "stop") -> None:
        self.answer = answer
        self.finish_reason = finish_reason
        self.requests: list[GenerateRequest] = []
        self.num_running = 0

    async def start(self) -> None: ...

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        self.num_running += 1
        text = request.messages[-1].content if self.answer is None else self.answer
        try:
            if text == "busy":
                raise EngineOverloaded("busy", retryable=True)
            yield Chunk(text[:1])
            if text == "never":
                await asyncio.Event().wait()
            yield Chunk(text[1:], self.finish_reason, USAGE if self.finish_reason else None)
        finally:
            self.num_running -= 1

    def capabilities(self) -> Capabilities:
        return Capabilities(None, None, has_json_schema=True, has_priority=True, has_prefix_cache=False)

    def stats(self) -> EngineStats:
        return EngineStats(num_running=self.num_running)

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        return 3

    async def close(self) -> None: ...


def spec(**fields: Any) -> LLMSpec:
    return LLMSpec.model_validate({"engine": "local", **({} if "messages" in fields else {"prompt": "p"}), **fields})


def bind(written: LLMSpec, scope: Mapping[str, Any] | None = None, identity: Mapping[str, Any] = IDENTITY) -> BoundCall:
    return LLMOperator(Path()).bind(written, scope or {}, {"local": identity, "other": identity})


def run(written: LLMSpec, engine: ScriptedEngine, context: Context | None = None) -> Any:
    used = context or Context()
    used.llm = engine
    return asyncio.run(LLMOperator(Path()).run(bind(written), used)).value


@pytest.mark.parametrize("answer", ['{"a": "KEY"}', '{"a": 1, "x": "KEY"}', "KEY", '{"a": [KEY'])
def test_no_part_of_a_secret_is_left_where_an_answer_is_cut(answer: str) -> None:
    key = "open/sesame+now"
    context = Context(secrets=Secrets({"KEY": key}))
    context.secrets.reveal("${env:KEY}")
    for num_before in range(150, 420, 3):
        said = answer.replace("KEY", "x" * num_before + key)
        with pytest.raises(BadResponse) as caught:
            run(spec(output={"a": "int"}), ScriptedEngine(said), context)
        assert "open" not in str(caught.value)


class TestConformance(OperatorConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        engine = ScriptedEngine()
        prompt = spec(prompt="{{ row.text }}")
        return Subject(
            operator=LLMOperator(Path()),
            good=Case(prompt, {"row": {"text": "good"}}),
            other=Case(prompt, {"row": {"text": "other"}}),
            unbound=(Case(prompt, {"row": {}}), Case(spec(prompt="{{ row.text / 2 }}"), {"row": {"text": "x"}})),
            faulty=(
                Case(prompt, {"row": {"text": "busy"}}),
                Case(spec(prompt="no json", output={"answer": "str"})),
            ),
            endless=Case(prompt, {"row": {"text": "never"}}),
            num_running=lambda: engine.num_running,
            engines={"local": EngineBlock("local", "scripted", {"model": "m"})},
            identities={"local": IDENTITY},
            engine=engine,
        )


def test_the_request_is_what_was_written() -> None:
    engine = ScriptedEngine('{"answer": "x"}')
    context = Context(priority=7, about={"node": "n"})
    written = spec(system="s", max_tokens=9, temperature=0.5, seed=4, stop=["\n"], output={"answer": "str"})
    assert run(written, engine, context) == {"text": '{"answer": "x"}', "answer": "x"}
    (request,) = engine.requests
    schema = request.json_schema
    assert schema is not None
    assert json.loads(schema)["required"] == ["answer"]
    assert request == GenerateRequest(
        request_id="request-1",
        messages=(Message("system", "s"), Message("user", "p")),
        max_tokens=9,
        temperature=0.5,
        seed=4,
        stop=("\n",),
        json_schema=schema,
        priority=7,
        about={"node": "n"},
    )


def test_messages_keep_their_order_and_roles() -> None:
    written = spec(
        system="s", messages=[{"role": "user", "content": "{{ row.q }}"}, {"role": "assistant", "content": "a"}]
    )
    call = bind(written, {"row": {"q": "why"}})
    assert call.prompt == (Message("system", "s"), Message("user", "why"), Message("assistant", "a"))


CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "Where is it?", "name": None},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "name": "order", "arguments": '{"id": 7}'}]},
    {"role": "tool", "content": "at the door", "tool_call_id": "c1"},
]


def test_messages_of_a_row_stand_among_those_of_the_flow() -> None:
    written = spec(
        messages=[
            {"role": "system", "content": "s"},
            {"from": "{{ row.chat }}"},
            {"role": "user", "content": "{{ row.q }}"},
        ]
    )
    call = bind(written, {"row": {"chat": CHAT, "q": "and now?"}})
    assert call.prompt == (
        Message("system", "s"),
        Message("user", "Where is it?"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "order", '{"id": 7}'),)),
        Message("tool", "at the door", tool_call_id="c1"),
        Message("user", "and now?"),
    )
    openai = [{"id": "c1", "type": "function", "function": {"name": "order", "arguments": '{"id": 7}'}}]
    same = [CHAT[0], {**CHAT[1], "tool_calls": openai}, CHAT[2]]
    assert bind(written, {"row": {"chat": same, "q": "and now?"}}) == call


def test_equal_messages_are_one_call_however_they_are_written() -> None:
    chat = [{"role": "user", "content": "a"}]
    alone = bind(spec(messages="{{ row.chat }}"), {"row": {"chat": chat}})
    assert alone == bind(spec(messages=[{"from": "{{ row.chat }}"}]), {"row": {"chat": chat}})
    assert alone == bind(spec(prompt="a"))
    for part in ({"content": "b"}, {"role": "assistant"}):
        assert bind(spec(messages="{{ row.chat }}"), {"row": {"chat": [chat[0] | part]}}).payload != alone.payload
    answered = bind(spec(messages="{{ row.chat }}"), {"row": {"chat": CHAT}}).payload
    other = [CHAT[0], {**CHAT[1], "tool_calls": [{"id": "c1", "name": "order", "arguments": '{"id": 8}'}]}, CHAT[2]]
    assert bind(spec(messages="{{ row.chat }}"), {"row": {"chat": other}}).payload != answered


USER: dict[str, Any] = {"role": "user", "content": "a"}
CALLING: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "name": "t"}]}


@pytest.mark.parametrize(
    ("chat", "says"),
    [
        (None, r"row.chat }} must give a list of messages, and gives null"),
        ('[{"role": "user"}]', r"and gives text"),
        ({"role": "user", "content": "a"}, r"and gives a mapping"),
        ([], "there is no message: the list is empty"),
        ([USER, "a"], r"message 2 of \{\{ row.chat \}\} is no mapping but text"),
        ([{"content": "a"}], "message 1 of .* has no role"),
        ([{"role": "assistent", "content": "a"}], "has the role 'assistent'"),
        ([{"role": ["user"], "content": "a"}], "has the role"),
        ([{"role": "user"}], "has no content"),
        ([{"role": "user", "content": 3}], "has a number as its content"),
        ([{"role": "user", "content": "a", "name": "bob"}], "has 'name', which engines are not given"),
        ([{"role": "user", "content": "a", "tool_calls": [{}]}], "has 'tool_calls', and its role is user"),
        ([{"role": "assistant", "tool_calls": "x"}], "'tool_calls' that are no list"),
        ([{"role": "assistant", "tool_calls": ["x"]}], "a tool call that is no mapping"),
        ([{"role": "assistant", "tool_calls": [{"id": "a", "function": 3}]}], "a tool call that is no mapping"),
        ([{"role": "assistant", "tool_calls": [{"id": 3, "name": "t"}]}], "a tool call whose 'id' is no text"),
        ([{"role": "assistant", "content": None}], "has no content"),
        ([{"role": "tool", "content": "a"}], "has the role tool and no 'tool_call_id'"),
        ([{"role": "user", "content": "a", "tool_call_id": "c1"}], "has a 'tool_call_id', and its role is user"),
        ([USER, {"role": "tool", "content": "a", "tool_call_id": "c1"}], "message 2 answers the call 'c1'"),
        ([CALLING, USER, {"role": "tool", "content": "a", "tool_call_id": "c1"}], "message 3 answers the call 'c1'"),
        ([CALLING, *[{"role": "tool", "content": "a", "tool_call_id": "c1"}] * 2], "message 3 answers the call 'c1'"),
        ([USER] * 10_001, "gives 10,001 messages; at most 10,000 are sent"),
        ([{"role": "user", "content": "a" * 2**16}] * (2**10 + 1), "more than 67,108,864 characters together"),
    ],
)
def test_what_is_no_conversation_fails_its_row(chat: Any, says: str) -> None:
    with pytest.raises(OperatorError, match=says):
        bind(spec(messages="{{ row.chat }}"), {"row": {"chat": chat}})


def test_a_system_message_is_given_once() -> None:
    chat = [{"role": "system", "content": "a"}, USER]
    assert bind(spec(messages="{{ row.chat }}"), {"row": {"chat": chat}}).prompt[0] == Message("system", "a")
    with pytest.raises(OperatorError, match="'system' is given twice: in the flow and in"):
        bind(spec(system="s", messages="{{ row.chat }}"), {"row": {"chat": chat}})


def test_what_decides_the_answer_is_in_the_payload_and_nothing_else() -> None:
    plain = bind(spec()).payload
    assert bind(spec(engine="other")).payload == plain
    for changed in ({"prompt": "q"}, {"max_tokens": 1}, {"temperature": 1}, {"seed": 1}, {"stop": ["a"]}):
        assert bind(spec(**changed)).payload != plain
    assert bind(spec(output={"a": "str"})).payload != plain
    assert bind(spec(), identity={"kind": "scripted", "model": "n"}).payload != plain


def test_greedy_calls_are_shared_always_and_others_never() -> None:
    operator = LLMOperator(Path())
    assert operator.traits(spec()).sharing is Sharing.ALWAYS
    assert operator.traits(spec(temperature=0.1, seed=1)).sharing is Sharing.NEVER
    assert operator.traits(spec()).pool == "engine:local"
    assert operator.traits(spec()).engine == "local"
    reasons = [operator.traits(spec(temperature=t)).reason for t in (0, 0.5, None)]
    assert reasons == ["greedy", "temperature 0.5", "the engine's own temperature"]
    assert operator.traits(spec(temperature=None)).sharing is Sharing.NEVER


def test_samples_are_different_calls_with_seeds_of_their_own() -> None:
    spec = LLMSpec.model_validate({"engine": "e", "prompt": "x", "temperature": 1, "seed": "{{ row.n }}", "samples": 3})
    operator = LLMOperator(Path())
    payloads = [operator.bind(spec, {"row": {"n": 7}, SAMPLE: number}, {"e": {}}).payload for number in range(3)]
    assert [(one["seed"], one["sample"]) for one in payloads] == [(7, 0), (8, 1), (9, 2)]
    assert operator.traits(spec).num_samples == 3


def test_a_seed_that_is_no_whole_number_of_64_bits_fails_its_row() -> None:
    spec = LLMSpec.model_validate({"engine": "e", "prompt": "x", "seed": "{{ row.n }}"})
    for wrong in (2**63, "7", 1.0, True):
        with pytest.raises(OperatorError, match="seed must be a whole number from -9,223"):
            LLMOperator(Path()).bind(spec, {"row": {"n": wrong}}, {"e": {}})


def test_the_shape_names_the_fields() -> None:
    operator = LLMOperator(Path())
    assert operator.shape(spec()) == Record.of(text=Scalar())
    assert operator.shape(spec(output={"a": "int"})) == Record.of(text=Scalar(), a=Scalar())
    assert operator.shape(spec(output={"json_schema": {"type": "object"}})) == Anything()


def test_an_unknown_engine_is_said_with_its_field() -> None:
    with pytest.raises(FlowError, match="no engine 'local'") as caught:
        LLMOperator(Path()).check(spec(), {"locale": EngineBlock("locale", "null", {"model": "m"})})
    assert caught.value.where == "engine"
    assert caught.value.hint == "did you mean 'locale'?"


def test_prefill_is_reported_once_per_call() -> None:
    context = Context()
    run(spec(), ScriptedEngine("long"), context)
    assert context.num_prefills == 1


def test_a_cut_answer_is_text_without_a_schema_and_an_error_with_one() -> None:
    assert run(spec(), ScriptedEngine("half", "length")) == {"text": "half"}
    with pytest.raises(BadResponse) as caught:
        run(spec(output={"a": "str"}), ScriptedEngine('{"a": "ha', "length"))
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("the answer was cut off: raise max_tokens")
    assert not caught.value.retryable
    assert run(spec(output={"a": "str"}), ScriptedEngine('{"a": "b"}', "length"))["a"] == "b"


def test_a_field_text_of_the_answer_does_not_replace_the_answer() -> None:
    open_schema = {"json_schema": {"type": "object", "properties": {"kind": {"type": "string"}}}}
    answer = '{"kind": "lamp", "text": "mine"}'
    assert run(spec(output=open_schema), ScriptedEngine(answer)) == {"text": answer, "kind": "lamp"}


def test_a_wrong_answer_is_worth_another_try_only_when_sampling() -> None:
    for temperature in (0.0, 0.7):
        with pytest.raises(BadResponse) as caught:
            run(spec(output={"a": "str"}, temperature=temperature), ScriptedEngine("no"))
        assert caught.value.retryable is (temperature > 0)


def test_a_stream_without_an_end_is_a_bad_response() -> None:
    with pytest.raises(BadResponse, match="stream ended") as caught:
        run(spec(), ScriptedEngine("text", None))
    assert caught.value.retryable


def test_a_skipped_step_is_empty_text_and_a_missing_column_an_error() -> None:
    assert bind(spec(prompt="[{{ facts.text }}]"), {"facts": SKIPPED}).prompt == (Message("user", "[]"),)
    with pytest.raises(OperatorError, match="template error"):
        bind(spec(prompt="{{ row.q }}"), {"row": {}})


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"messages": [{"role": "user", "content": "a"}], "prompt": "b"}, "exactly one"),
        ({"messages": []}, "exactly one"),
        ({"messages": [{"role": "system", "content": "a"}], "system": "b"}, "given twice"),
        ({"temperature": -1}, "greater than or equal"),
        ({"max_tokens": 0}, "greater than or equal"),
        ({"output": {"text": "str"}}, "whole answer"),
    ],
)
def test_wrong_specs_are_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        spec(**fields)


@pytest.mark.parametrize("kind", ["openvino", "null"])
@pytest.mark.parametrize("field", [{"pattern": "^a+$"}, {"format": "date"}, {"multipleOf": 2}])
def test_a_schema_that_the_engine_cannot_generate_is_refused_with_the_flow(kind: str, field: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", **field}}, "required": ["a"]}
    written = spec(output={"json_schema": schema})
    operator = LLMOperator(Path())
    with pytest.raises(FlowError, match=f"engine 'local'.*'{next(iter(field))}'.*\\$\\.a") as caught:
        operator.check(written, {"local": EngineBlock("local", kind, {"model": "m"})})
    assert caught.value.where == "output"
    operator.check(
        written, {"local": EngineBlock("local", "openai", {"model": "m", "base_url": "http://localhost/v1"})}
    )


def test_a_call_that_stops_reading_closes_its_stream() -> None:
    class Stopped(Context):
        def prefill_ended(self) -> None:
            raise RuntimeError("the reader is gone")

    async def stop() -> None:
        engine = ScriptedEngine("long")
        with pytest.raises(RuntimeError, match="gone"):
            await LLMOperator(Path()).run(bind(spec()), Stopped(llm=engine))
        assert engine.num_running == 0

    asyncio.run(stop())
