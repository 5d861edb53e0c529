"""The search for what is wrong with a run before its first call: the one place that asks engines' outlines and
operators.

Owns which rows are looked at, the time that it takes, and what stops a run: only that with which no row can succeed.
Never makes a call; what connects only reads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, cast

from sundog.batch.step_facts import TOLD
from sundog.deployment import identities, used_engines
from sundog.engines.base import EngineOutline
from sundog.errors import ConfigError, SundogError, error_text
from sundog.execution.input_row import BadRow
from sundog.ir.agreement import cascades_of, together_of
from sundog.ir.alternatives import AlternativesExec
from sundog.ir.physical import (
    CallExec,
    Exec,
    FilterExec,
    LoopExec,
    PhysicalPlan,
    Sharing,
    ValueExec,
    calls_of,
)
from sundog.ir.pool_names import engine_of
from sundog.ir.tables import InputRows
from sundog.ir.values.canonical import describe_value
from sundog.operators.base import Finding, InspectingOperator, Inspection, Operator
from sundog.runtime.preflight.engine_inspection import look_at_engine, missing_secrets
from sundog.runtime.preflight.known_calls import KnownCalls, Walk
from sundog.runtime.rows.inputs import RowSource
from sundog.runtime.tables.flow_inputs import FlowInputs
from sundog.sched.policy import POLICIES
from sundog.secrets import Secrets

MAX_ROWS = 5_000
MAX_CHARACTERS = 50_000_000
ROWS_TIMEOUT_S = 3.0
TIMEOUT_S = 7.0
MAX_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PlanFinding:
    """Something wrong with a plan."""

    #: As in "step 'answer'".
    place: str
    what: str
    hint: str | None
    #: No row can succeed.
    is_fatal: bool

    def __str__(self) -> str:
        head = f"{self.place}: {self.what}"
        return f"{head}\n  {self.hint}" if self.hint else head


def inspect_plan(
    plan: PhysicalPlan, inputs: FlowInputs, open_operators: Callable[[], Mapping[str, Operator]], secrets: Secrets
) -> tuple[PlanFinding, ...]:
    """Return the findings in the order of the plan. It takes ROWS_TIMEOUT_S and TIMEOUT_S at most for each table, and
    says what it could not look at. The rows of queries are not there yet: of their tables only the engines and what the
    operators say without rows are looked at. `open_operators`: gives operators of its own, which it closes."""
    found = list(_of_trades(plan))
    for table in plan.tables:
        rows = inputs.source(table.table) if isinstance(table.table.source, InputRows) else None
        found += _inspect_table(replace(plan, tables=(table,)), rows, open_operators, secrets)
    notes = _notes(inputs) if found or inputs.count() else ()
    return tuple(dict.fromkeys((*notes, *(_untold_facts(plan.policy) if inputs.count() else ()), *found)))


def _of_trades(plan: PhysicalPlan) -> Iterator[PlanFinding]:
    for one in cascades_of(plan.written):
        what = (
            f"'{one.small}' judges in the place of '{one.large}' where {one.num_sampled:,} sampled pairs show that "
            f"they agree on {one.agree:.1%} of all: some verdicts may be others"
        )
        yield PlanFinding(f"table '{one.table}'", what, f"without 'cascade' '{one.large}' judges all pairs", False)
    for each in together_of(plan.written):
        what = f"{each.num_rows} pairs are judged in one prompt: some verdicts may be others than alone"
        yield PlanFinding(f"table '{each.table}'", what, "without 'rows_per_prompt' each pair has its own", False)


def _inspect_table(
    plan: PhysicalPlan,
    rows: RowSource | None,
    open_operators: Callable[[], Mapping[str, Operator]],
    secrets: Secrets,
) -> list[PlanFinding]:
    num_rows = 1 if rows is None else rows.count()
    if num_rows == 0:
        return []
    operators = open_operators()
    walk = Walk(plan.nodes, plan.logical.constants, operators, identities(plan))
    num_inspected = 0 if rows is None else _look_at_rows(walk, rows)
    return _in_thread(_Inspector(plan, operators, secrets, walk.found, num_rows, num_inspected).run)


def refuse(findings: Sequence[PlanFinding]) -> None:
    """Raise ConfigError where no row can succeed."""
    for finding in findings:
        if finding.is_fatal:
            raise ConfigError(
                f"no row can succeed, so nothing was called: {finding.what}", where=finding.place, hint=finding.hint
            )


def _look_at_rows(walk: Walk, rows: RowSource) -> int:
    """Return how many rows were looked at: the first ones."""
    end_s = time.monotonic() + ROWS_TIMEOUT_S
    num_rows = 0
    for batch in rows.batches(batch_size=64):
        for number, row in batch:
            if not isinstance(row, BadRow):
                walk.row(number, row)
            num_rows += 1
            if num_rows >= MAX_ROWS or walk.found.num_characters > MAX_CHARACTERS or time.monotonic() > end_s:
                return num_rows
    return num_rows


def _notes(inputs: FlowInputs) -> Iterator[PlanFinding]:
    """Yield what changes in values when the inputs are read."""
    for name, note in inputs.notes():
        yield PlanFinding(f"input '{name}'", note, "where they mean something, give them as text", is_fatal=False)


def _untold_facts(policy: str) -> Iterator[PlanFinding]:
    """Yield what the policy set orders calls by and no batch knows."""
    for fact in POLICIES.get(policy).reads:
        if fact not in TOLD:
            yield PlanFinding(
                f"policy set '{policy}'",
                f"it orders calls by `{fact}`, which nothing in a flow tells: they run as they come",
                "choose another --policy; without the option it is the one that suits batches",
                is_fatal=False,
            )


class _Inspector:
    def __init__(
        self,
        plan: PhysicalPlan,
        operators: Mapping[str, Operator],
        secrets: Secrets,
        known: KnownCalls,
        num_rows: int,
        num_inspected: int,
    ) -> None:
        self._plan = plan
        self._operators = operators
        self._secrets = secrets
        self._known = known
        self._num_rows = num_rows
        self._num_inspected = num_inspected
        self._outlines: dict[str, EngineOutline | None] = {}
        self._always = frozenset(_always_run(plan.nodes))

    async def run(self) -> list[PlanFinding]:
        """Return what was found of engines and steps, at most MAX_AT_ONCE steps side by side, and close the operators.
        A finding ends the run only where no earlier step may mend it."""
        turns = asyncio.Semaphore(MAX_AT_ONCE)
        end_s = time.monotonic() + TIMEOUT_S

        async def inspect(call: CallExec, given: Inspection) -> list[Finding]:
            async with turns:
                return await self._ask(call, given, end_s)

        found: list[PlanFinding] = []
        try:
            found += await self._look_at_engines()
            calls = list(calls_of(self._plan.nodes))
            asked = await asyncio.gather(*(inspect(call, self._given(call)) for call in calls))
            may_mend = False
            for call, answers in zip(calls, asked, strict=True):
                found += [self._judged(call, one, may_mend=may_mend) for one in (*self._of_rows(call), *answers)]
                may_mend |= call.sharing is Sharing.NEVER and engine_of(call.pool) is None
            return found
        finally:
            for operator in self._operators.values():
                await operator.close()

    async def _look_at_engines(self) -> list[PlanFinding]:
        blocks = used_engines(self._plan)
        looks = await asyncio.gather(*(look_at_engine(block, self._secrets) for block in blocks))
        self._outlines = {block.name: look.outline for block, look in zip(blocks, looks, strict=True)}
        return [
            self._finding(f"engine '{block.name}'", finding, is_certain=True)
            for block, look in zip(blocks, looks, strict=True)
            for finding in look.findings
        ]

    async def _ask(self, call: CallExec, given: Inspection, end_s: float) -> list[Finding]:
        """Return what the operator says, or why it says nothing."""
        operator = self._operators[call.step.operator]
        if not hasattr(operator, "inspect") or any(True for _ in _unset(call, self._secrets)):
            return []
        try:
            async with asyncio.timeout(max(0.0, end_s - time.monotonic())):
                return list(await cast(InspectingOperator, operator).inspect(call.step.spec, given))
        except TimeoutError:
            return [Finding(f"not checked: it took longer than {TIMEOUT_S:g} s")]
        except SundogError as error:
            return [Finding(f"not checked: {error.what}", error.hint)]
        except Exception as error:  # an operator's mistake while looking must not stop what may run well
            return [Finding(f"not checked: {error_text(error)}")]

    def _given(self, call: CallExec) -> Inspection:
        engine = self._operators[call.step.operator].traits(call.step.spec).engine
        return Inspection(
            self._known.calls.get(call.name, {}),
            self._secrets,
            TIMEOUT_S,
            self._num_rows,
            self._num_inspected,
            None if engine is None else self._outlines.get(engine),
        )

    def _of_rows(self, call: CallExec) -> Iterator[Finding]:
        """Yield what rendering the rows has shown, and what the environment lacks."""
        yield from _unset(call, self._secrets)
        given = Inspection({}, self._secrets, 0.0, self._num_rows, self._num_inspected)
        if failures := self._known.failures.get(call.name):
            row, first = next(iter(failures.items()))
            told = first.what if isinstance(first, SundogError) else first
            yield Finding(
                f"{given.rows(len(failures))} fail here (row {row}: {told})",
                first.hint if isinstance(first, SundogError) else None,
                is_fatal=len(failures) == self._num_rows,
            )
        if nulls := self._known.nulls.get(call.name):
            counts = ", ".join(f"{'.'.join(path)} in {given.rows(count)}" for path, count in nulls.items())
            yield Finding(
                f"null reaches the prompt, as empty text: {counts}", "write {{ ... or 'what to say then' }}, or filter"
            )

    def _judged(self, call: CallExec, finding: Finding, *, may_mend: bool) -> PlanFinding:
        is_certain = call.name in self._always and not (finding.is_of_state and may_mend)
        return self._finding(f"step '{call.name}'", finding, is_certain=is_certain)

    def _finding(self, place: str, finding: Finding, *, is_certain: bool) -> PlanFinding:
        hide = self._secrets.redact
        hint = None if finding.hint is None else hide(finding.hint)
        return PlanFinding(place, hide(finding.what), hint, finding.is_fatal and is_certain)


def _always_run(nodes: Sequence[Exec]) -> Iterator[str]:
    """Yield the calls that each row makes, whatever its values and the answers are."""
    for node in nodes:
        if isinstance(node, FilterExec):
            return
        if isinstance(node, ValueExec):
            continue
        body = node.step if isinstance(node, CallExec) else node.loop
        if body.when is not None or body.for_each is not None:
            continue
        if isinstance(node, AlternativesExec):
            if node.alternatives.on_error is None:
                yield node.first.name
        elif isinstance(node, LoopExec):
            yield from _always_run(node.body)
        else:
            yield node.name


def _unset(call: CallExec, secrets: Secrets) -> Iterator[Finding]:
    yield from missing_secrets(describe_value(call.step.spec), secrets)


def _in_thread(run: Callable[[], Coroutine[Any, Any, list[PlanFinding]]]) -> list[PlanFinding]:
    """Run on an event loop of its own, wherever it is called from: a notebook's loop is running already. What does not
    come back in time is left behind."""
    future: Future[list[PlanFinding]] = Future()

    async def report() -> None:
        # The loop's end waits for threads that may not come back: the findings do not.
        future.set_result(await run())

    def work() -> None:
        try:
            asyncio.run(report())
        except BaseException as error:  # handed to the caller
            if not future.done():
                future.set_exception(error)

    threading.Thread(target=work, name="sundog-inspect", daemon=True).start()
    try:
        return future.result(TIMEOUT_S + 1.0)
    except TimeoutError:
        return [PlanFinding("the plan", "not checked: an operator did not come back in time", None, is_fatal=False)]
