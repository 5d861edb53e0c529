"""Traces of a live host: one for each row or program, a span for each call, named by the GenAI conventions.

Owns what belongs to which trace and what a span tells: names of the server's own, numbers and ids, never a prompt, an
answer or what an error says. Where spans go, exporting decides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sundog.execution.calls.dispatch import CallCounts
from sundog.execution.executor import RowExecutor
from sundog.execution.row_way import OnValue, RowEnd
from sundog.host.attempt import RunAttempt, Success
from sundog.host.driver import Driver, GivenUp
from sundog.host.recorder import Recorder
from sundog.host.waits import Waits
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.pool_names import engine_of, label_of
from sundog.ir.row_ids import RowRef
from sundog.live.engines import LiveEngines
from sundog.live.terms import NO_TERMS, Terms
from sundog.sched.core import SchedulerCore
from sundog.sched.events import RequestArrived, Submit
from sundog.serve.tracing.names import Attributes, call_attributes, span_name, usage_attributes
from sundog.transport.trace_headers import TRACE_HEADERS

T = TypeVar("T")
MAX_PROGRAMS = 10_000
"""The programs whose traces are known; one that comes again after so many others has another trace."""
PROPAGATOR = TraceContextTextMapPropagator()
TRACED = ("traceparent", "tracestate")


@dataclass(slots=True)
class _Asked:
    """A call of a model as a client has asked for it."""

    operation: str
    parent: Context | None
    program: str
    on_trace: Callable[[str], None]


_ASKED: ContextVar[_Asked | None] = ContextVar("sundog.asked_call", default=None)


class HostTraces:
    """This class traces one live host."""

    def __init__(self, provider: TracerProvider, version: str) -> None:
        self._tracer = provider.get_tracer("sundog", version)
        #: By flow and step, the operator.
        self._operators: dict[tuple[str, str], str] = {}
        #: By program, its first call.
        self._programs: OrderedDict[str, SpanContext] = OrderedDict()

    def driver(self, core: SchedulerCore, recorder: Recorder, waits: Waits, engines: LiveEngines) -> Driver:
        return _TracedDriver(self, engines, core, recorder, waits)

    def serves(self, plan: PhysicalPlan) -> None:
        for call in calls_of(plan.nodes):
            self._operators[plan.logical.name, call.name] = call.step.operator

    def rows(self, flow: str, executor: RowExecutor, terms: Mapping[int, Terms]) -> _TracedRows:
        return _TracedRows(self, flow, executor, terms)

    def counts(self, counts: CallCounts) -> CallCounts:
        return _TracedCounts(self, counts)

    @contextmanager
    def model_call(
        self, operation: str, headers: Mapping[str, str], program: str, on_trace: Callable[[str], None]
    ) -> Iterator[None]:
        parent = _parent_of(headers) or self._of_program(program)
        token = _ASKED.set(_Asked(operation, parent, program, on_trace))
        try:
            yield
        finally:
            _ASKED.reset(token)

    @contextmanager
    def row_span(self, flow: str, ref: RowRef, traceparent: str) -> Iterator[Span]:
        """Yield the span of a row, which is the current one while the context lasts."""
        parent = _parent_of({"traceparent": traceparent}) or Context()
        told: Attributes = {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": flow,
            "sundog.request": ref.row_id[0],
            "sundog.row": ref.row_id[1],
        }
        span = self._tracer.start_span(f"invoke_workflow {flow}", parent, attributes=told)
        token = otel.attach(set_span_in_context(span, parent))
        try:
            yield span
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            otel.detach(token)
            span.end()

    @contextmanager
    def call_span(self, arrived: RequestArrived, engines: LiveEngines) -> Iterator[Span]:
        """Yield the span of a call; servers that are asked meanwhile are told of it."""
        facts, asked = arrived.facts, _ASKED.get()
        operator = self._operators.get((facts.flow, facts.node), "")
        is_engine = engine_of(arrived.pool) is not None
        model = engines.model_of(arrived.pool) if is_engine else ""
        operation = asked.operation if asked is not None else _operation(operator, is_engine=is_engine)
        kind = engines.block(arrived.pool).kind if is_engine else ""
        told = call_attributes(arrived, operation, model, kind)
        name = span_name(operation, model or facts.node or label_of(arrived.pool))
        span = self._tracer.start_span(
            name, None if asked is None else asked.parent or Context(), SpanKind.CLIENT, attributes=told
        )
        if asked is not None:
            self._first(asked.program, span.get_span_context())
            asked.on_trace(f"{span.get_span_context().trace_id:032x}")
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier, set_span_in_context(span))
        token = TRACE_HEADERS.set(carrier)
        try:
            yield span
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            TRACE_HEADERS.reset(token)
            span.end()

    def reused(self, step: str) -> None:
        """A call of the current row is answered without being made."""
        if get_current_span().is_recording():
            told: Attributes = {"sundog.step": step, "sundog.is_reused": True}
            self._tracer.start_span(f"reused {step}", attributes=told).end()

    def _of_program(self, program: str) -> Context | None:
        known = self._programs.get(program)
        if known is None:
            return None
        self._programs.move_to_end(program)
        return set_span_in_context(NonRecordingSpan(known), Context())

    def _first(self, program: str, call: SpanContext) -> None:
        if program and program not in self._programs:
            self._programs[program] = call
            if len(self._programs) > MAX_PROGRAMS:
                self._programs.popitem(last=False)


class _TracedDriver(Driver):
    """This class makes a span of each request."""

    def __init__(
        self, traces: HostTraces, engines: LiveEngines, core: SchedulerCore, recorder: Recorder, waits: Waits
    ) -> None:
        super().__init__(core, _unlogged, None, recorder, waits)
        self._traces = traces
        self._engines = engines

    async def run(self, arrived: RequestArrived, attempt: RunAttempt[T]) -> T:
        """Do what a driver does, in a span."""
        with self._traces.call_span(arrived, self._engines) as span:

            async def traced(submit: Submit) -> Success[T]:
                span.set_attributes({"sundog.replica": submit.replica_id, "sundog.attempts": submit.attempt})
                success = await attempt(submit)
                span.set_attributes(usage_attributes(success.usage))
                return success

            return await super().run(arrived, traced)


class _TracedRows:
    """This class runs each row in a span."""

    def __init__(self, traces: HostTraces, flow: str, executor: RowExecutor, terms: Mapping[int, Terms]) -> None:
        self._traces = traces
        self._flow = flow
        self._executor = executor
        self._terms = terms

    async def run(
        self, ref: RowRef, row: Mapping[str, Any], position: int = 0, on_value: OnValue | None = None
    ) -> RowEnd:
        """Return what RowExecutor does."""
        terms = self._terms.get(ref.row_id[0], NO_TERMS)
        with self._traces.row_span(self._flow, ref, terms.traceparent) as span:
            end = await self._executor.run(ref, row, position, on_value)
            span.set_attribute("sundog.row.state", end.state)
            if end.state == "failed":
                span.set_status(Status(StatusCode.ERROR))
            return end


class _TracedCounts:
    """This class counts as another one does, and traces what is reused."""

    def __init__(self, traces: HostTraces, counts: CallCounts) -> None:
        self._traces = traces
        self._counts = counts

    def asked(self, step: str) -> None:
        self._counts.asked(step)

    def reused(self, step: str, *, is_of_another_run: bool) -> None:
        self._counts.reused(step, is_of_another_run=is_of_another_run)
        self._traces.reused(step)


def _unlogged(event: object) -> None:
    """Keep no log of events, as a host without traces."""


def _operation(operator: str, *, is_engine: bool) -> str:
    if not is_engine:
        return "execute_tool"
    return "embeddings" if operator == "embed" else "chat"


def _parent_of(headers: Mapping[str, str]) -> Context | None:
    """Return the context that a client tells of; None where it tells of none."""
    carrier = {name: headers[name] for name in TRACED if headers.get(name)}
    if not carrier:
        return None
    parent = PROPAGATOR.extract(carrier, Context())
    return parent if get_current_span(parent).get_span_context().is_valid else None


def _fail(span: Span, error: BaseException) -> None:
    """Tell the kind of an error, and not what it says."""
    if isinstance(error, GivenUp) and error.failure is not None:
        error = error.failure
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))
