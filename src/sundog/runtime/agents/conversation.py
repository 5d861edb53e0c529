"""One conversation of an agent: turns and uses of tools, until there is an answer or a limit ends it.

Owns the order of turns and the agent's value. Each turn and each use of a tool is a call like any other, committed
before anything follows from it: a run that goes on finds them, and asks the next turn. Never runs a call itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sundog.engines.base import Message, Usage
from sundog.errors import CallError, PromptTooLong
from sundog.ir.agent_turn import AgentTurnSpec
from sundog.ir.agents import AgentExec
from sundog.ir.physical import CallExec
from sundog.ir.templates.render import Scope
from sundog.operators.agent_turn import SO_FAR, SoFar, turn_message
from sundog.operators.prompt_messages import as_json, render_messages
from sundog.runtime.agents.limits import Stopped, why_stopped
from sundog.runtime.agents.tool_uses import UseTool, read_uses, run_uses
from sundog.runtime.agents.turn_facts import TurnFacts
from sundog.runtime.calls.dispatch import CallAnswer
from sundog.sched.facts import CallFacts

Ask = Callable[[CallExec, Scope, str, int, CallFacts | None], Awaitable[CallAnswer]]
"""Makes the call of a turn under a path, after so many turns, with what is told of it; CallError where it failed."""


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
    #: The keys of all uses of tools, in order.
    used: list[bytes] = field(default_factory=list)
    #: The steps of tools that were used, with the turn that they were used after.
    used_after: list[tuple[str, int]] = field(default_factory=list)
    #: Seconds that each of its calls took when it was computed, in no order.
    call_seconds: list[float] = field(default_factory=list)
    text: str = ""
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
        told: TurnFacts | None,
        observer: TurnObserver,
    ) -> None:
        self._node = node
        self._scope = scope
        self._path = path
        self._ask = ask
        self._use_tool = use_tool
        self._told = told
        self._observer = observer
        spec = node.agent.turn.spec
        assert isinstance(spec, AgentTurnSpec)
        self._spec = spec

    async def value(self) -> dict[str, Any]:
        """Return the agent's value. CallError where a turn failed, where the first prompt is too long, or where nobody
        knows whether an effect happened."""
        asked = list(render_messages(self._spec.conversation(), self._scope))
        said = _Said()
        stopped = await self._turns(asked, said)
        if self._spec.output is not None and said.fields is None and stopped != "context":
            await self._last_turn(said)
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

        async def use_tool(step: CallExec, scope: Scope, path: str) -> CallAnswer | CallError:
            answer = await self._use_tool(step, scope, path)
            said.call_seconds.append(answer.call_s)
            return answer

        while True:
            try:
                called = await self._turn(said, is_last=False)
            except PromptTooLong:
                if not said.num_turns:
                    raise
                return "context"
            uses = read_uses(self._node, said.num_turns, called)
            said.messages.append(turn_message(said.text, [use.call for use in uses]))
            if not uses:
                return "answer"
            for tool in agent.tools:
                num_uses = sum(use.call.name == tool.name for use in uses)
                self._observer.fanned_out(tool.step, num_uses)
                if num_uses:
                    said.used_after.append((tool.step, said.num_turns))
            prefix = f"{self._path}.{said.num_turns}/"
            is_parallel = agent.has_parallel_tools
            said.messages += await run_uses(uses, self._scope, prefix, use_tool, is_parallel=is_parallel)
            said.used += [use.key for use in uses]
            messages = [as_json(message) for message in (*asked, *said.messages)] if agent.stop_when else []
            seen = {"turns": said.num_turns, "text": said.text, "messages": messages}
            if stopped := why_stopped(agent, self._scope, said.usages, said.used, said.call_seconds, seen):
                return stopped

    async def _turn(self, said: _Said, *, is_last: bool) -> list[dict[str, str]]:
        """Ask for the next answer; return the calls that it makes."""
        scope = {**self._scope, SO_FAR: SoFar(tuple(said.messages), is_last)}
        turn, number = self._node.turn, said.num_turns + 1
        told = None if self._told is None else self._told.of(number, is_final=is_last)
        answer = await self._ask(turn, scope, f"{self._path}.{number}/{turn.name}", said.num_turns, told)
        said.usages.append(answer.usage)
        said.call_seconds.append(answer.call_s)
        said.text, said.fields = answer.value["text"], answer.value.get("fields")
        calls: list[dict[str, str]] = answer.value["calls"]
        return calls

    async def _last_turn(self, said: _Said) -> None:
        """Ask once more, without tools, for the fields of `output`. Where the conversation is too long for that, there
        are none."""
        try:
            await self._turn(said, is_last=True)
        except PromptTooLong:
            return
        said.messages.append(turn_message(said.text, ()))

    def _fields(self, said: _Said) -> dict[str, Any]:
        """Return the fields of `output`, null where there was no answer."""
        if said.fields is not None:
            return said.fields
        names = () if self._spec.output is None else self._spec.output.field_names
        return dict.fromkeys(names)
