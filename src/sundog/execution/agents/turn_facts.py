"""The facts of each turn of an agent, which engines are told: from its plan, and from what earlier runs have shown.

Owns when a turn is taken for the last one, and which tool is expected after it. Nothing of this changes an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sundog.cost.history import History, ended_share, likeliest_tool, mean_call_s, turns_to_come
from sundog.ir.agent_turn import AgentTurnSpec
from sundog.ir.agents import AgentExec
from sundog.ir.physical import Exec, LoopExec, PhysicalPlan, calls_of
from sundog.sched.facts import CallFacts

LAST_SHARE = 0.9
"""The share of the conversations that ended with a turn, from which on the next one is expected to end with it too."""


@dataclass(frozen=True, slots=True)
class _Place:
    """An agent with what follows it in its row."""

    node: AgentExec
    #: Calls on its engine after it.
    num_later: int
    #: Another conversation of it may follow in the same row, or run beside it.
    is_repeated: bool


class TurnFacts:
    """This class gives the facts of the turns of one agent. `history`: of the flow's steps, empty where there is
    none."""

    def __init__(self, flow: str, place: _Place, history: History) -> None:
        self._place = place
        self._history = history
        self._pauses_s = mean_call_s(history)
        agent, turn = place.node.agent, place.node.turn
        assert isinstance(agent.max_turns, int), "an agent's is no template"
        spec = turn.step.spec
        assert isinstance(spec, AgentTurnSpec)
        # An agent that is to give fields is asked for them once more.
        self._last_allowed = agent.max_turns + (spec.output is not None)
        self._record = history.get((place.node.name, ""))
        self._tools = {tool.step: history.get((tool.step, "")) for tool in agent.tools}
        # What the last turn calls is run all the same, and a tool may ask the same engine.
        self._has_tools_there = any(
            call.pool == turn.pool for call in calls_of(place.node.body) if call.name != turn.name
        )
        self._facts = CallFacts(flow, turn.name)

    def of(self, turn: int, *, is_final: bool) -> CallFacts:
        """Return the facts of a turn, which count from 1. `is_final`: no tool is offered any more."""
        if is_final or self._ends_with(turn):
            return self._last()
        num_more = turns_to_come(self._record, turn) or 0.0
        facts = replace(
            self._facts,
            is_last_turn=False,
            steps_to_next_use=1,
            num_remaining_steps=self._place.num_later + max(1.0, num_more),
        )
        likeliest = likeliest_tool(self._record, self._tools, turn)
        if likeliest is None:
            return facts
        tool, share = likeliest
        return replace(facts, tool=tool, tool_share=share, expected_pause_s=self._pauses_s.get(tool))

    def _ends_with(self, turn: int) -> bool:
        if turn >= self._last_allowed and not self._has_tools_there:
            return True
        share = ended_share(self._record, turn)
        return share is not None and share >= LAST_SHARE

    def _last(self) -> CallFacts:
        """Return the facts of a conversation's last turn: of the row's last one where nothing on the engine follows."""
        num_later = self._place.num_later
        if not num_later and not self._place.is_repeated:
            return self._facts
        return replace(
            self._facts, is_last_turn=False, steps_to_next_use=1, num_remaining_steps=float(max(1, num_later))
        )


def turn_facts(plan: PhysicalPlan, history: History) -> dict[str, TurnFacts]:
    """Return the facts of each agent's turns, by the agent."""
    flow = plan.logical.name
    places = (place for table in plan.tables for place in _agents(table.nodes, is_repeated=False))
    return {place.node.name: TurnFacts(flow, place, history) for place in places}


def _agents(nodes: Sequence[Exec], *, is_repeated: bool) -> Iterator[_Place]:
    num_later: Mapping[str, int]
    for number, node in enumerate(nodes):
        if not isinstance(node, LoopExec):
            continue
        if isinstance(node, AgentExec):
            num_later = Counter(call.pool for call in calls_of(nodes[number + 1 :]))
            has_many = is_repeated or node.loop.for_each is not None
            yield _Place(node, num_later[node.turn.pool], has_many)
        yield from _agents(node.body, is_repeated=True)
