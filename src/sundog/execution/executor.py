"""The wavefront of one row: each step starts as soon as what it waits for has ended.

Owns the meaning of `when`, `for_each`, `loop`, `filter` and `value`. Never runs a call itself: execution.calls.dispatch
does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import fsum
from typing import TYPE_CHECKING, Any, Protocol

from sundog.errors import AnswersAwaited, CallError, OperatorError
from sundog.execution.calls.call_key import CallIdentity
from sundog.execution.calls.dispatch import CallAnswer
from sundog.execution.input_row import BadRow
from sundog.execution.row_way import NodeFailed, OnValue, RowDropped, RowEnd, RowWay
from sundog.execution.transcripts import recorded_steps
from sundog.ir.agents import AgentExec, ToolFlowExec, UsedExec
from sundog.ir.alternatives import AlternativesExec
from sundog.ir.logical import MAX_RENDERED_TURNS, ForEach, templates_of
from sundog.ir.physical import CallExec, Exec, FilterExec, LoopExec, TableExec, ValueExec
from sundog.ir.pool_names import engine_of
from sundog.ir.row_ids import RowRef
from sundog.ir.sql_types import SQLType, misfit, spell_type
from sundog.ir.templates.environment import SKIPPED
from sundog.ir.templates.reads import reads_history
from sundog.ir.templates.render import Scope, render_condition, render_json, render_text, render_value
from sundog.ir.templates.template import Template
from sundog.ir.templates.whole_numbers import render_whole_number
from sundog.ir.values.answer import Answer
from sundog.ir.values.loop_value import LoopValue
from sundog.ir.values.normal_form import encode
from sundog.sched.facts import CallFacts
from sundog.store.store import NO_USAGE
from sundog.store.writer import Asked

if TYPE_CHECKING:
    from sundog.execution.agents.turn_facts import TurnFacts

Values = dict[str, Any]
MAX_REASON_CHARACTERS = 2_000
_MEND_ROW = "mend the row: another input is another run"
INPUTS_NODE = "inputs"
"""In the place of a node: the row came in with a value that none can have."""


class Calls(Protocol):
    """This class answers calls."""

    async def call(self, node: CallExec, scope: Scope, identity: CallIdentity) -> CallAnswer: ...

    async def call_or_error(self, node: CallExec, scope: Scope, identity: CallIdentity) -> CallAnswer | CallError: ...


class Passages(Protocol):
    """This class hears once for each row and node of the plan (not inside loops) that the row has passed it, or never
    will."""

    def passed(self, node: str) -> None: ...


class Observer(Protocol):
    """Hears what the rows decide: `judged`, how a condition of a node turned out; `fanned_out`, how long a list of
    `for_each` was; `turned`, after how many turns a loop ended; `used_after`, after which turn an agent used a tool;
    `took`, how long the calls of an agent or a flow took that is a tool."""

    def judged(self, node: str, holds: bool) -> None: ...
    def fanned_out(self, node: str, num_items: int) -> None: ...
    def turned(self, node: str, num_turns: int) -> None: ...
    def used_after(self, node: str, turn: int) -> None: ...
    def took(self, node: str, call_s: float) -> None: ...


class RowExecutor:
    """Runs rows of one table."""

    def __init__(
        self,
        table: TableExec,
        constants: Mapping[str, Any],
        calls: Calls,
        observer: Observer,
        passages: Passages,
        turns: Mapping[str, TurnFacts] | None = None,
    ) -> None:
        """`turns`: by agent, what is told of each of its turns."""
        #: The name of its table.
        self.table = table.name
        self._outputs = table.table.outputs
        self._types = {column.name: column.type for column in table.columns if column.is_checked}
        self._untouched = table.table.untouched if table.is_marked else {}
        self._constants = constants
        self._nodes = table.nodes
        self._depth = table.depth
        self._calls = calls
        self._observer = observer
        self._passages = passages
        self._turns = turns or {}
        self._chains = _chains(table.nodes)
        self._recorded = recorded_steps(table.nodes)
        self._with_history = _with_history(table.nodes)
        self._tells_usage = any("usage" in one.source for one in templates_of((table.table.nodes, self._outputs)))

    async def run(
        self, ref: RowRef, row: Mapping[str, Any] | BadRow, position: int = 0, on_value: OnValue | None = None
    ) -> RowEnd:
        """Return the row's end as a value, whatever its data does. `position`: as in `CallIdentity`. RunStopped passes
        through."""
        on_its_way = RowWay(ref, position, on_value=on_value)
        scope: Values = {**self._constants, "row": row}
        try:
            if isinstance(row, BadRow):
                raise NodeFailed(INPUTS_NODE, OperatorError(row.reason, hint=row.hint or _MEND_ROW))
            await self._run_nodes(self._nodes, scope, on_its_way, "")
            return on_its_way.ended("done", self._output(scope))
        except RowDropped:
            return on_its_way.ended("dropped", b"{}")
        except NodeFailed as failed:
            lacks = row.lacks if isinstance(row, BadRow) else None
            body = failed.body(self._known(row), lacks)
            return on_its_way.ended("failed" if lacks is None else "not_run", body)
        except AnswersAwaited as awaited:
            awaited.said = on_its_way.record.packed()
            raise
        finally:
            for node in self._nodes:
                if node.name not in scope:
                    self._passages.passed(node.name)

    def _known(self, row: Mapping[str, Any] | BadRow) -> Values:
        """Return the columns that a failed row has all the same, where a table marks by them what belongs to it."""
        columns = row.known if isinstance(row, BadRow) else row
        return {name: columns[column] for name, column in self._untouched.items() if column in columns}

    def _output(self, scope: Values) -> bytes:
        columns: Values = {}
        for name, template in self._outputs:
            try:
                columns[name] = render_json(template, scope)
            except CallError as error:
                raise NodeFailed(f"outputs.{name}", error) from error
        for name, type in self._types.items():
            if why := misfit(columns[name], type):
                raise NodeFailed(f"outputs.{name}", _misfit_error(name, type, why))
        try:
            return encode(columns)
        except ValueError as error:
            raise NodeFailed("outputs", OperatorError(str(error))) from error

    async def _run_nodes(self, nodes: tuple[Exec, ...], scope: Values, row: RowWay, prefix: str) -> None:
        """Fill `scope` with the value of every node. Of several failures, the first in plan order is raised:
        which one ends a row must not depend on timing."""
        if id(nodes) in self._chains:
            for depth, node in enumerate(nodes):
                self._set(scope, node, await self._run_node(node, scope, row, prefix, depth), prefix, row)
            return
        tasks: dict[str, asyncio.Task[None]] = {}

        async def wait_and_run(node: Exec, depth: int) -> None:
            for name in node.before:
                await asyncio.shield(tasks[name])
            self._set(scope, node, await self._run_node(node, scope, row, prefix, depth), prefix, row)

        for depth, node in enumerate(nodes):
            tasks[node.name] = asyncio.ensure_future(wait_and_run(node, depth))
        await _all_then_first_failure(list(tasks.values()))

    def _set(self, scope: Values, node: Exec, value: Any, prefix: str, row: RowWay) -> None:
        scope[node.name] = value
        if not prefix:
            self._passages.passed(node.name)
            if row.on_value is not None:
                row.on_value(node.name, value)

    async def _run_node(self, node: Exec, scope: Values, row: RowWay, prefix: str, depth: int) -> Any:
        try:
            match node:
                case FilterExec():
                    if self._holds(node.name, node.filter.predicate, scope):
                        return True
                    if node.filter.reason is None:
                        raise RowDropped
                    raise OperatorError(render_text(node.filter.reason, scope)[:MAX_REASON_CHARACTERS])
                case CallExec(step=body) | LoopExec(loop=body) | ValueExec(value=body):
                    if body.when is not None and not self._holds(body.name, body.when, scope):
                        return SKIPPED
                    if body.for_each is not None:
                        return await self._run_each(node, body.for_each, scope, row, prefix, depth)
                    return await self._run_once(node, scope, row, prefix + body.name, depth)
        except CallError as error:
            raise NodeFailed(prefix + node.name, error) from error

    def _holds(self, name: str, condition: Template, scope: Values) -> bool:
        holds = render_condition(condition, scope)
        self._observer.judged(name, holds)
        return holds

    async def _run_each(
        self,
        node: CallExec | LoopExec | ValueExec,
        each: ForEach,
        scope: Values,
        row: RowWay,
        prefix: str,
        depth: int,
    ) -> list[Any]:
        items = render_value(each.items, scope)
        if items is None:
            return []
        if not isinstance(items, list | tuple):
            raise OperatorError(
                f"for_each needs a list, got {type(items).__name__}", hint=f"the template is {each.items.source!r}"
            )
        self._observer.fanned_out(node.name, len(items))
        if isinstance(node, ValueExec):
            return [render_json(node.value.template, {**scope, each.variable: item}) for item in items]
        tasks = [
            asyncio.ensure_future(
                self._run_once(node, {**scope, each.variable: item}, row, f"{prefix}{node.name}[{index}]", depth)
            )
            for index, item in enumerate(items)
        ]
        await _all_then_first_failure(tasks)
        return [task.result() for task in tasks]

    async def _run_once(
        self, node: CallExec | LoopExec | ValueExec, scope: Values, row: RowWay, path: str, depth: int
    ) -> Any:
        match node:
            case ValueExec():
                return render_json(node.value.template, scope)
            case AgentExec():
                from sundog.execution.agents.conversation import AgentConversation  # few flows have agents

                ask, use_tool = partial(self._call, row, depth), partial(self._use_tool, row, depth)
                told = self._turns.get(node.name)
                conversation = AgentConversation(node, scope, path, ask, use_tool, self._observer, row.record, told)
                return await conversation.value()
            case ToolFlowExec():
                inner = dict(scope)
                await self._run_nodes(node.body, inner, row, f"{path}.1/")
                return {name: render_json(template, inner) for name, template in node.flow.outputs}
            case AlternativesExec():
                return await self._run_alternatives(node, scope, row, path, depth)
            case LoopExec():
                return await self._run_loop(node, scope, row, path)
        return self._heard(row, node, path, depth, await self._call(row, depth, node, scope, path))

    async def _call(
        self, row: RowWay, depth: int, node: CallExec, scope: Scope, path: str, facts: CallFacts | None = None
    ) -> CallAnswer:
        identity = CallIdentity(row.row, path, self._depth + depth, row.position, facts)
        if row.is_use:
            kept = await self._kept(row, node, scope, identity)
            if isinstance(kept, CallError):
                raise kept
            return kept
        answer = await self._calls.call(node, scope, identity)
        row.asked.append(_asked(node, answer))
        return answer

    async def _call_or_error(
        self, row: RowWay, depth: int, node: CallExec, scope: Scope, path: str
    ) -> CallAnswer | CallError:
        return await self._kept(row, node, scope, CallIdentity(row.row, path, self._depth + depth, row.position))

    async def _kept(self, row: RowWay, node: CallExec, scope: Scope, identity: CallIdentity) -> CallAnswer | CallError:
        """Return what a call gives, or its failure, committed, from which something follows."""
        try:
            answer = await self._calls.call_or_error(node, scope, identity)
        except CallError as error:
            row.unknown = error
            raise
        # A failure is committed too, and so it is executed: what is executed was asked for.
        row.asked.append(_asked(node, answer) if isinstance(answer, CallAnswer) else Asked(node.name, 0, 0))
        row.took(answer, engine_of(node.pool))
        return answer

    async def _use_tool(
        self, row: RowWay, depth: int, node: UsedExec, scope: Scope, path: str
    ) -> CallAnswer | CallError:
        """Return what a tool of an agent gives, or the failure that its model is told. CallError where nobody knows
        whether an effect happened."""
        if isinstance(node, CallExec):
            return await self._call_or_error(row, depth, node, scope, path)
        from sundog.execution.agents.nested import told_value  # few agents hand a part on

        use = row.use()
        answer: CallAnswer | CallError
        try:
            value = await self._run_once(node, dict(scope), use, path, depth)
            answer = CallAnswer(told_value(node, value), NO_USAGE)
        except (CallError, NodeFailed) as failed:
            answer = failed.error if isinstance(failed, NodeFailed) else failed
        if use.unknown is not None:
            row.unknown = use.unknown
            raise use.unknown
        answer.call_s, answer.inner = fsum(use.call_seconds), tuple(use.spent)
        self._observer.took(node.name, answer.call_s)
        row.took(answer)
        return answer

    async def _run_alternatives(self, node: AlternativesExec, scope: Values, row: RowWay, path: str, depth: int) -> Any:
        from sundog.execution.alternatives import alternative_value  # few flows have any

        async def run_step(call: CallExec, inner: Values, prefix: str, place: int) -> Any:
            return await self._run_node(call, inner, row, prefix, depth + place)

        async def try_step(call: CallExec, inner: Scope, at: str) -> Any:
            answer = await self._call_or_error(row, depth, call, inner, at)
            return self._heard(row, call, at, depth, answer) if isinstance(answer, CallAnswer) else answer

        def count(name: str) -> None:
            row.asked.append(Asked(name, 0, 0))

        return await alternative_value(node, scope, path, run_step, try_step, count, self._observer)

    def _heard(self, row: RowWay, node: CallExec, path: str, depth: int, answer: CallAnswer) -> Any:
        """Return the value as templates see it: with its usage, where one may read that. Where the call is a part of a
        conversation, it is kept for readers."""
        if (is_alternative := self._recorded.get(node.name)) is not None:
            row.record.step(node, path, depth, answer, is_alternative=is_alternative)
        if not self._tells_usage or engine_of(node.pool) is None or not isinstance(answer.value, dict):
            return answer.value
        usage = answer.usage
        tokens = {"prompt_tokens": usage.num_prompt_tokens, "output_tokens": usage.num_output_tokens}
        return Answer(answer.value, tokens)

    async def _run_loop(self, node: LoopExec, scope: Values, row: RowWay, path: str) -> Values:
        loop = node.loop
        max_turns = render_whole_number(loop.max_turns, scope, "max_turns", 1, MAX_RENDERED_TURNS)
        last: Any = SKIPPED
        history: dict[str, list[Any]] = {body.name: [] for body in node.body}
        turn = 0
        while turn < max_turns:
            turn += 1
            inner = {**scope, "loop": {"turn": turn, "last": last, "history": history}}
            await self._run_nodes(node.body, inner, row, f"{path}.{turn}/")
            last = {body.name: inner[body.name] for body in node.body}
            if loop.name in self._with_history:
                # A new one: values of this turn may hold the old one.
                history = {name: [*values, _plain_value(last[name])] for name, values in history.items()}
            inner["loop"] = {"turn": turn, "last": last, "history": history}
            if loop.until is not None and render_condition(loop.until, inner):
                break
        self._observer.turned(loop.name, turn)
        value = {"turns": turn, **{name: _plain_value(value) for name, value in last.items()}}
        skipped = [name for name, value in last.items() if value is SKIPPED]
        return LoopValue(value, skipped) if skipped else value


def _plain_value(value: Any) -> Any:
    return None if value is SKIPPED else value


def _with_history(nodes: tuple[Exec, ...]) -> set[str]:
    """Return the loops whose turns read those before."""
    loops = [node for node in nodes if isinstance(node, LoopExec)]
    return {node.name for node in loops if reads_history(node.loop)}.union(*(_with_history(one.body) for one in loops))


def _asked(node: CallExec, answer: CallAnswer) -> Asked:
    return Asked(node.name, answer.usage.num_prompt_tokens, answer.usage.num_output_tokens)


def _chains(nodes: tuple[Exec, ...]) -> set[int]:
    """Return the ids of those tuples of nodes, the plan's and its loops' bodies, of which each node waits for the one
    before it, so that nothing can overlap."""
    found = set[int]().union(*(_chains(node.body) for node in nodes if isinstance(node, LoopExec)))
    return found | {id(nodes)} if all(first.name in second.before for first, second in pairwise(nodes)) else found


async def _all_then_first_failure(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Wait for all; then raise the first failure in their order. A cancelled caller cancels them all."""
    try:
        await asyncio.wait(tasks) if tasks else None
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    failures = [error for task in tasks if (error := task.exception()) is not None]
    # A row that the run stopped has not failed, whatever else happened to it: it is run again later.
    failures.sort(key=lambda error: isinstance(error, NodeFailed | RowDropped))
    if failures:
        raise failures[0]


def _misfit_error(column: str, type: SQLType, why: str) -> OperatorError:
    spelled = spell_type(type)
    return OperatorError(
        f"the column '{column}' is {spelled} for the queries that read it, and {why}",
        hint=f"give it the type that all its values have: types: {{{column}: JSON}} in the table takes any value",
    )
