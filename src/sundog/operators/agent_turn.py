"""One turn of an agent: the conversation so far and the tools go to an engine, an answer or calls of tools come back.

Owns the request's making, in the form in which the engine's models call tools, and the reading of the answer. Never
runs a tool, and never decides whether there is another turn: execution.agents does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sundog.engines.base import ENGINES, Chunk, FinishReason, Message, SchemaLimitedKind
from sundog.engines.structured.tool_form import (
    constrained_messages,
    constrained_schema,
    read_constrained,
    reads_as_json,
    told_tools,
)
from sundog.engines.tool_use import ToolCall, ToolChoice, ToolSchema
from sundog.errors import BadResponse, FlowError
from sundog.ir.agent_turn import AgentTurnSpec
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.pool_names import engine_pool
from sundog.ir.schemas.output_schema import parse_answer
from sundog.ir.schemas.shape import ListOf, Record, Scalar, Shape
from sundog.ir.templates.render import Scope
from sundog.ir.templates.template import Template
from sundog.ir.values.canonical import canonical_json
from sundog.ir.values.normal_form import whole_text
from sundog.operators.answer_stream import generate_request, paid, whole_answer
from sundog.operators.base import BoundCall, CallContext, Outcome, Traits
from sundog.operators.embed import check_answers
from sundog.operators.prompt_messages import as_json, render_messages

SO_FAR = "agent__so_far"
"""The name in a scope of the conversation so far; no step of a user can have it."""
_MARKUP = ("{{", "{%", "{#")


@dataclass(frozen=True, slots=True)
class SoFar:
    """A conversation after some turns."""

    #: The answers and the results of tools; not what was asked first.
    messages: tuple[Message, ...] = ()
    #: No tool may be called any more, and the answer has the form of `output`.
    is_last: bool = False


class AgentTurnOperator:
    """This operator makes one turn of each call: `{text, calls: [{tool, arguments}], is_cut}`, and where there is an
    `output` its `fields`."""

    name = "agent"
    Spec: type[OperatorSpec] = AgentTurnSpec

    def __init__(self, base_dir: Path) -> None:
        pass

    def check(self, spec: AgentTurnSpec, engines: Mapping[str, EngineBlock]) -> None:
        block = engines[spec.engine]
        check_answers(block)
        kind = ENGINES.get(block.kind)() if block.kind in ENGINES.names() else None
        if not isinstance(kind, SchemaLimitedKind):
            return
        for tool in _tools(spec):
            _check_schema(kind, constrained_schema((tool,), "required", None), f"the parameters of '{tool.name}'")
        if spec.output is not None:
            _check_schema(kind, spec.output.text, "the output")

    def traits(self, spec: AgentTurnSpec) -> Traits:
        is_greedy = spec.temperature == 0
        return Traits(
            Sharing.ALWAYS if is_greedy else Sharing.NEVER,
            pool=engine_pool(spec.engine),
            engine=spec.engine,
            conversation=tuple(_expected(spec)),
            max_tokens=spec.max_tokens,
            answer_options=canonical_json(_options(spec, SoFar())).decode("utf-8", "surrogatepass"),
            timeout_s=600.0,
            reason="greedy" if is_greedy else "not greedy",
        )

    def shape(self, spec: AgentTurnSpec) -> Shape:
        call = Record.of(tool=Scalar("str"), arguments=Scalar("str"))
        return Record.of(text=Scalar("str"), calls=ListOf(call), is_cut=Scalar("bool"))

    def bind(self, spec: AgentTurnSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        so_far = scope.get(SO_FAR) or SoFar()
        asked = render_messages(spec.conversation(), scope)
        messages = (*asked, *so_far.messages)
        payload = {
            "engine": dict(engines[spec.engine]),
            "messages": [as_json(message) for message in messages],
            **_options(spec, so_far),
        }
        prompt = messages if spec.form == "native" else constrained_messages(messages, _tools(spec))
        return BoundCall(payload, prompt, spec.max_tokens)

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        payload = call.payload
        tools = tuple(ToolSchema(*tool) for tool in payload["tools"])
        request = generate_request(call, context)
        choice: ToolChoice = payload["choice"]
        if payload["form"] == "constrained":
            request.json_schema = constrained_schema(tools, choice, payload["output"])
        elif choice == "none":
            request.json_schema = payload["output"]
        else:
            request.tools, request.tool_choice = tools, choice
            request.has_parallel_calls = payload["parallel"]
        text, last = await whole_answer(request, context)
        with paid(last.usage):
            return Outcome(_value(text, last, payload, context), last.usage)

    async def close(self) -> None:
        pass


def _value(text: str, last: Chunk, payload: Any, context: CallContext) -> dict[str, Any]:
    """Return what a turn has said and called; BadResponse where it cannot be read."""
    calls = last.tool_calls
    if payload["form"] == "constrained":
        answer = read_constrained(text)
        if answer.text == text:
            _refuse_a_part(text, last.finish_reason, payload)
        text, calls = answer.text, () if answer.call is None else (answer.call,)
    if payload["choice"] == "required" and not calls and last.finish_reason != "length":
        raise BadResponse("the model called no tool", retryable=payload["temperature"] != 0)
    made = [{"tool": whole_text(one.name), "arguments": whole_text(one.arguments)} for one in calls]
    is_cut = last.finish_reason == "length"
    value = {"text": text, "calls": made, "is_cut": is_cut}
    if payload["output"] is not None:
        value["fields"] = None if calls else _fields(text, payload, is_cut, context)
    return value


def _refuse_a_part(text: str, finish_reason: FinishReason | None, payload: Any) -> None:
    """Raise BadResponse for a part of the constrained form, which is neither an answer nor a call."""
    is_retryable = payload["temperature"] != 0
    if finish_reason == "length":
        hint = "raise max_tokens"
        if payload["max_tokens"] is None:
            hint = "the model's context, or the server's own limit, was full: let the prompt or the results be shorter"
        raise BadResponse("the answer was cut off", hint=hint, retryable=is_retryable)
    if text.lstrip().startswith("{") and not reads_as_json(text):
        hint = "a text of `stop` in it cuts it off" if payload["stop"] else "see how the engine constrains answers"
        raise BadResponse("the answer is not whole JSON", hint=hint, retryable=is_retryable)


def _tools(spec: AgentTurnSpec) -> tuple[ToolSchema, ...]:
    return tuple(ToolSchema(tool.name, tool.description, tool.parameters) for tool in spec.offered)


def _fields(text: str, payload: Any, is_cut: bool, context: CallContext) -> dict[str, Any] | None:
    """Return what an answer says of the fields of `output`. A model that was free in its words may have said nothing of
    them: None."""
    is_free = payload["form"] == "native" and payload["choice"] != "none"
    try:
        return parse_answer(
            text,
            payload["output"],
            hint="the answer was cut off: raise max_tokens" if is_cut else None,
            retryable=payload["temperature"] != 0,
            redact=context.secrets.redact,
        )
    except BadResponse:
        if is_free:
            return None
        raise


def turn_message(text: str, calls: Sequence[ToolCall]) -> Message:
    """Return an answer as the next turn's prompt has it."""
    return Message("assistant", text, tool_calls=tuple(calls))


def _options(spec: AgentTurnSpec, so_far: SoFar) -> dict[str, Any]:
    """Return what decides the answer beside the engine and the messages."""
    return {
        "form": spec.form,
        "tools": [[tool.name, tool.description, tool.parameters] for tool in _tools(spec)],
        "choice": "none" if so_far.is_last else spec.tool_choice,
        "parallel": spec.parallel_tools,
        "output": None if spec.output is None else spec.output.text,
        "max_tokens": spec.max_tokens,
        "temperature": spec.temperature,
        "seed": spec.seed,
        "stop": list(spec.stop),
    }


def _expected(spec: AgentTurnSpec) -> Iterator[tuple[str, Template]]:
    """Yield the first prompt as it is known before the run, the tools as text where a template can hold that."""
    told = told_tools(_tools(spec))
    has_told = any(mark in told for mark in _MARKUP)
    for role, template in spec.conversation():
        if role == "system" and not has_told:
            has_told = True
            yield role, Template(f"{template.source}\n\n{told}")
        else:
            if not has_told:
                has_told = True
                yield "system", Template(told)
            yield role, template
    # Each turn reads the ones before, as a step of a loop does: two turns of a conversation are never equal calls.
    yield "assistant", Template("{{ loop.last }}")


def _check_schema(kind: SchemaLimitedKind, schema: str, what: str) -> None:
    try:
        kind.check_schema(schema)
    except BadResponse as error:
        where = f" ({error.where})" if error.where else ""
        raise FlowError(f"the engine cannot be asked for {what}: {error.what}{where}", hint=error.hint) from error
