"""One conversation of an agent: turns and uses of tools, until there is an answer or a limit ends it.

Owns the order of turns and the agent's value. Each turn and each use of a tool is a call like any other, committed
before anything follows from it: a run that goes on finds them, and asks the next turn. Never runs a call itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sundog.engines.base import Message, Usage
from sundog.engines.tool_use import ToolCall
from sundog.errors import AnswersAwaited, CallError, PromptTooLong
from sundog.execution.agents.limits import Stopped, why_stopped
from sundog.execution.agents.tool_uses import UseResult, UseTool, read_uses, run_uses
from sundog.execution.agents.turn_facts import TurnFacts
from sundog.execution.calls.dispatch import CallAnswer, EngineUsage
from sundog.execution.transcripts import RowRecord, figures
from sundog.ir.agent_turn import AgentTurnSpec
from sundog.ir.agents import AgentExec, UsedExec
from sundog.ir.conversations.transcript import FAILED, WAITS, Figures, Saying
from sundog.ir.physical import CallExec
from sundog.ir.templates.render import Scope
from sundog.operators.agent_turn import SO_FAR, SoFar, turn_message
from sundog.operators.prompt_messages import as_json, render_messages
from sundog.sched.facts import CallFacts

Ask = Callable[[CallExec, Scope, str, CallFacts | None], Awaitable[CallAnswer]]
"""Makes the call of a turn under a path, with what is told of it; CallError where it failed."""


class TurnObserver(Protocol):
    """Hears how many uses of each tool a turn had; of a conversation that has ended, after which turns each tool was
    used, and how many turns there were."""

    def fanned_out(self, node: str, num_items: int) -> None: ...
    def turned(self, node: str, num_turns: int) -> None: ...
    def used_after(self, node: str, turn: int) -> None: ...


@dataclass(slots=True)
class _Said:
    """The conversation so far."""

    messages: list[Message] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    #: The tokens of models that its tools have asked.
    inner: list[EngineUsage] = field(default_factory=list)
    #: By turn, the keys of its uses of tools.
    used: list[list[bytes]] = field(default_factory=list)
    #: Uses that could not be run, and uses that failed.
    num_wrong: int = 0
    num_failed: int = 0
    #: The steps of tools that were used, with the turn that they were used after.
    used_after: list[tuple[str, int]] = field(default_factory=list)
    #: Seconds that each of its calls took when it was computed, in no order.
    call_seconds: list[float] = field(default_factory=list)
    #: All of it, as it is kept for readers.
    kept: list[Saying] = field(default_factory=list)
    #: The time and tokens of the last turn.
    took: Figures | None = None
    text: str = ""
    #: The last answer came to its longest.
    is_cut: bool = False
    fields: dict[str, Any] | None = None

    @property
    def num_turns(self) -> int:
        return len(self.usages)


class AgentConversation:
    """This class holds the conversations of one agent with one row. `path` is the agent's."""

    def __init__(
        self,
        node: AgentExec,
        scope: Scope,
        path: str,
        ask: Ask,
        use_tool: UseTool,
        observer: TurnObserver,
        record: RowRecord,
        told: TurnFacts | None,
    ) -> None:
        self._node = node
        self._scope = scope
        self._path = path
        self._ask = ask
        self._use_tool = use_tool
        self._told = told
        self._observer = observer
        self._record = record
        spec = node.agent.turn.spec
        assert isinstance(spec, AgentTurnSpec)
        self._spec = spec

    async def value(self) -> dict[str, Any]:
        """Return the agent's value. CallError where a turn failed, where the first prompt is too long, or where nobody
        knows whether an effect happened."""
        asked = list(render_messages(self._spec.conversation(), self._scope))
        said = _Said(kept=[self._record.message(message, 0) for message in asked])
        ended: str = FAILED
        try:
            ended = stopped = await self._turns(asked, said)
            if self._spec.output is not None and said.fields is None and stopped != "context":
                await self._last_turn(said)
        except AnswersAwaited:
            ended = WAITS
            raise
        finally:
            self._record.keep(self._path, "agent", ended, said.kept)
            agent = self._node.agent
            self._record.counted += [agent.counted_wrong] * said.num_wrong + [agent.counted_failed] * said.num_failed
        self._observer.turned(self._node.name, said.num_turns)
        for step, turn in said.used_after:
            self._observer.used_after(step, turn)
        return {
            "text": said.text,
            **self._fields(said),
            "turns": said.num_turns,
            "stopped": stopped,
            "messages": [as_json(message) for message in (*asked, *said.messages)],
        }

    async def _turns(self, asked: list[Message], said: _Said) -> Stopped:
        agent = self._node.agent

        async def use_tool(step: UsedExec, scope: Scope, path: str) -> CallAnswer | CallError:
            answer = await self._use_tool(step, scope, path)
            said.call_seconds.append(answer.call_s)
            said.inner += answer.inner
            return answer

        while True:
            try:
                called = await self._turn(said, is_last=False)
            except PromptTooLong:
                if not said.num_turns:
                    raise
                return "context"
            uses = read_uses(self._node, said.num_turns, called, is_cut=said.is_cut)
            self._answered(said, [use.call for use in uses])
            if not uses:
                return "answer"
            for tool in agent.tools:
                num_uses = sum(use.call.name == tool.name for use in uses)
                self._observer.fanned_out(tool.step, num_uses)
                if num_uses:
                    said.used_after.append((tool.step, said.num_turns))
            prefix = f"{self._path}.{said.num_turns}/"
            is_parallel = agent.has_parallel_tools
            results = await run_uses(uses, self._scope, prefix, use_tool, is_parallel=is_parallel)
            said.messages += [result.message for result in results]
            said.kept += [self._kept(result, said.num_turns) for result in results]
            said.used.append([use.key for use in uses])
            num_wrong = sum(use.step is None for use in uses)
            said.num_wrong += num_wrong
            said.num_failed += sum(result.is_error for result in results) - num_wrong
            messages = [as_json(message) for message in (*asked, *said.messages)] if agent.stop_when else []
            seen = {"turns": said.num_turns, "text": said.text, "messages": messages}
            if stopped := why_stopped(agent, self._scope, said.usages, said.inner, said.used, said.call_seconds, seen):
                return stopped

    async def _turn(self, said: _Said, *, is_last: bool) -> list[dict[str, str]]:
        """Ask for the next answer; return the calls that it makes."""
        scope = {**self._scope, SO_FAR: SoFar(tuple(said.messages), is_last)}
        turn, number = self._node.turn, said.num_turns + 1
        told = None if self._told is None else self._told.of(number, is_final=is_last)
        answer = await self._ask(turn, scope, f"{self._path}.{number}/{turn.name}", told)
        said.usages.append(answer.usage)
        said.call_seconds.append(answer.call_s)
        said.took = figures(answer.call_s, answer.usage)
        said.text, said.fields = answer.value["text"], answer.value.get("fields")
        said.is_cut = answer.value["is_cut"]
        calls: list[dict[str, str]] = answer.value["calls"]
        return calls

    async def _last_turn(self, said: _Said) -> None:
        """Ask once more, without tools, for the fields of `output`. Where the conversation is too long for that, there
        are none."""
        try:
            await self._turn(said, is_last=True)
        except PromptTooLong:
            return
        self._answered(said, ())

    def _answered(self, said: _Said, calls: Sequence[ToolCall]) -> None:
        message = turn_message(said.text, calls)
        said.messages.append(message)
        said.kept.append(self._record.message(message, said.num_turns, said.took))

    def _kept(self, result: UseResult, turn: int) -> Saying:
        took = Figures(round(result.call_s, 6))
        key = result.answer_key.hex()
        return self._record.message(result.message, turn, took, is_error=result.is_error, answer_key=key)

    def _fields(self, said: _Said) -> dict[str, Any]:
        """Return the fields of `output`, null where there was no answer."""
        if said.fields is not None:
            return said.fields
        names = () if self._spec.output is None else self._spec.output.field_names
        return dict.fromkeys(names)
