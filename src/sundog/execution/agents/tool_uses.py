"""The uses of tools in one turn: what a model called becomes calls of the tools' nodes, and messages for the next turn.

Owns what is told to the model of a use that failed: an unknown tool, arguments that do not fit, a call that failed. An
effect of which nobody knows whether it happened is no message: it fails the row. Never runs a call itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sundog.engines.base import Message
from sundog.engines.tool_use import ToolCall
from sundog.errors import CallError
from sundog.execution.calls.dispatch import CallAnswer
from sundog.ir.agents import ARGS, AgentExec, UsedExec, has_effects
from sundog.ir.physical import CallExec
from sundog.ir.schemas.tool_schema import read_arguments
from sundog.ir.templates.render import Scope
from sundog.ir.values.canonical import canonical_json
from sundog.ir.values.normal_form import whole_text

MAX_RESULT_CHARACTERS = 100_000
"""A model is told as much of one result, and that it was cut."""

_CUT = "the answer was cut off in the arguments of this call, which is not made: say less, or give shorter arguments"
_NUM_SHOWN_CHARACTERS = 200

UseTool = Callable[[UsedExec, Scope, str], Awaitable[CallAnswer | CallError]]
"""Runs a tool's node under a path; returns its failure, which is committed as an answer is."""


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a tool, as far as it can be told before it runs."""

    call: ToolCall
    #: Equal uses have it in common.
    key: bytes
    #: The node to run, None where it cannot be.
    step: UsedExec | None
    arguments: dict[str, Any] | None
    #: The reason why it cannot be run.
    mistake: str = ""

    @property
    def is_alone(self) -> bool:
        """Return whether it waits for the uses before it, and those after it wait for it."""
        return self.step is not None and has_effects(self.step)


@dataclass(frozen=True, slots=True)
class UseResult:
    """This class holds the result of one use of a tool."""

    #: As the model is told.
    message: Message
    #: Seconds that its call took, 0 where it could not be run.
    call_s: float = 0.0
    #: The message says what went wrong.
    is_error: bool = False
    #: The key of a person's answer, empty for all others.
    answer_key: bytes = b""


def read_uses(node: AgentExec, turn: int, called: Sequence[dict[str, str]], *, is_cut: bool = False) -> list[Use]:
    """Return the uses that an answer calls for. The ids of a server are random: others stand in their place, so that
    equal conversations stay equal. `is_cut`: the answer came to its longest, so the last call may be a part of one."""
    tools = {tool.name: tool for tool in node.agent.tools}
    found = []
    for number, one in enumerate(called):
        name, text = one["tool"], one["arguments"]
        call = ToolCall(f"call_{turn}_{number}", name, text if _is_object(text) else "{}")
        if name not in tools:
            mistake = f"there is no tool '{name[:100]}'; there are: {', '.join(tools)}"
            found.append(Use(call, canonical_json([name, text]), None, None, mistake))
            continue
        arguments, mistake = read_arguments(text, tools[name].parameters)
        if is_cut and number == len(called) - 1 and not _is_object(text):
            mistake = _CUT
        key = canonical_json([name, text if arguments is None else arguments])
        step = None if arguments is None else node.node(tools[name].step)
        found.append(Use(call, key, step, arguments, mistake))
    return found


async def run_uses(
    uses: Sequence[Use], scope: Scope, prefix: str, run: UseTool, *, is_parallel: bool
) -> list[UseResult]:
    """Return the results, in the order of the calls. Uses without effects run at once where
    `is_parallel`; an effect waits for what was called before it."""
    numbers: dict[str, int] = {}
    jobs: list[tuple[Use, Callable[[], Awaitable[CallAnswer | CallError]]]] = []
    results: dict[str, UseResult] = {}
    for use in uses:
        if use.step is None:
            results[use.call.id] = UseResult(_message(use, f"error: {use.mistake}"), is_error=True)
            continue
        number = numbers[use.step.name] = numbers.get(use.step.name, -1) + 1
        jobs.append((use, _job(use, use.step, scope, f"{prefix}{use.step.name}[{number}]", run)))
    for group in _groups(jobs, is_parallel=is_parallel):
        answers = await _all([job() for _, job in group])
        for (use, _), answer in zip(group, answers, strict=True):
            results[use.call.id] = _result(use, answer)
    return [results[use.call.id] for use in uses]


def _job(
    use: Use, step: UsedExec, scope: Scope, path: str, run: UseTool
) -> Callable[[], Awaitable[CallAnswer | CallError]]:
    async def job() -> CallAnswer | CallError:
        try:
            return await run(step, {**scope, ARGS: use.arguments}, path)
        except CallError as error:
            # It fails the row, of which only the agent would be named.
            error.what = f"the tool '{use.call.name}' with {use.call.arguments[:_NUM_SHOWN_CHARACTERS]}: {error.what}"
            raise

    return job


def _groups(jobs: Sequence[tuple[Use, Any]], *, is_parallel: bool) -> list[list[tuple[Use, Any]]]:
    groups: list[list[tuple[Use, Any]]] = []
    for job in jobs:
        begins = not groups or not is_parallel or job[0].is_alone or groups[-1][-1][0].is_alone
        if begins:
            groups.append([])
        groups[-1].append(job)
    return groups


async def _all(jobs: Sequence[Awaitable[CallAnswer | CallError]]) -> list[CallAnswer | CallError]:
    """Wait for all, also where one fails the row; then raise the first failure, one that stops the run first."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    failures = [error for task in tasks if (error := task.exception()) is not None]
    failures.sort(key=lambda error: isinstance(error, CallError))
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]


def _result(use: Use, answer: CallAnswer | CallError) -> UseResult:
    message = _message(use, _shown(use, answer))
    if isinstance(answer, CallError):
        return UseResult(message, answer.call_s, is_error=True)
    return UseResult(message, answer.call_s, answer_key=b"" if answer.question is None else answer.key)


def _message(use: Use, text: str) -> Message:
    if len(text) > MAX_RESULT_CHARACTERS:
        text = f"{text[:MAX_RESULT_CHARACTERS]}\n(cut here: the result has {len(text):,} characters)"
    return Message("tool", text, tool_call_id=use.call.id)


def _shown(use: Use, answer: CallAnswer | CallError) -> str:
    """Return a result as a model reads it: of an HTTP answer or a model's what it says, without headers and such."""
    if isinstance(answer, CallError):
        return f"error: {whole_text(answer.what)}"
    value = answer.value
    # An agent's, or a flow's, is what a model reads already.
    operator = use.step.step.operator if isinstance(use.step, CallExec) else ""
    match operator, value:
        case "http", {"json": content, "text": text}:
            value = text if content is None else content
        case "mcp", {"json": content, "text": text, "parts": parts}:
            value = _with_parts(text if content is None else content, parts)
        case "human", {"text": text}:
            value = text
        case "llm", {"text": text, **fields}:
            value = fields or text
    return _text(value)


def _with_parts(content: Any, parts: Sequence[Any]) -> Any:
    """Return what a tool says, and that it gave pictures or sounds, which no model is shown: their words would be
    missing."""
    others = [part.get("resource") or part for part in parts if part.get("type") != "resource_link"]
    kinds = [str(part.get("mimeType") or part.get("type") or "a file") for part in others]
    if not kinds:
        return content
    told = f"(not shown here: {', '.join(kinds)})"
    return told if content in ("", None) else f"{_text(content)}\n{told}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _is_object(text: str) -> bool:
    with suppress(ValueError, RecursionError):
        return isinstance(json.loads(text), dict)
    return False
