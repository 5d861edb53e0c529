"""The contract that every kind of step keeps and one conformance suite checks.

Owns the call, its outcome and the registry. Never schedules, retries, shares or stores: runtime and sched do.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sundog.engines.base import Engine, EngineOutline, Message, Usage
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.schemas.shape import Shape
from sundog.ir.server_tools import ServerTool, ServerTools
from sundog.ir.templates.render import Scope
from sundog.ir.templates.template import Template
from sundog.registry import Registry
from sundog.secrets import Secrets

PayloadPlace = tuple[str | int, ...]
"""The keys that lead to a value in a payload."""
DEFAULT_CONCURRENCY = 32
"""Calls in flight on a pool of tools, where neither its operator nor the flow says another number."""


@dataclass(frozen=True, slots=True)
class HeldTemplate:
    """A template whose outcome stands in the payload of each call of a step, whole and as it is."""

    place: PayloadPlace
    template: Template
    #: The payload holds a text there, whatever the outcome is; the value itself where this is False.
    is_text: bool


@dataclass(frozen=True, slots=True)
class PayloadForm:
    """The payloads of a step's calls, as far as they are known before any row is."""

    #: By name, canonical text of what is the same in every payload of the step. Calls of two steps of one operator are
    #: never equal where the texts under one name differ.
    fixed: Mapping[str, str]
    #: Other places of the payload may hold the outcomes of other templates; one step has a place once.
    held: tuple[HeldTemplate, ...]


@dataclass(frozen=True, slots=True)
class Traits:
    """The facts of a step that the optimizer and the runtime may know without knowing its operator."""

    sharing: Sharing
    pool: str
    #: It is claimed before it runs, never shared, never repeated by itself.
    is_effect: bool = False
    #: The outside state it touches (a database, a host), None for none; two steps on one resource of which one writes
    #: keep their written order.
    resource: str | None = None
    #: It changes that state.
    writes: bool = False
    #: The engine block's name, for LLM steps.
    engine: str | None = None
    #: An LLM step's messages, (role, text), in order.
    conversation: tuple[tuple[str, Template], ...] = ()
    #: The longest answer of an LLM step; None where the engine decides.
    max_tokens: int | None = None
    #: Canonical text of all that decides an LLM step's answer beside engine and conversation.
    answer_options: str = ""
    #: Calls in flight on its pool, where the flow has no limit for it; of the steps on one pool the largest counts.
    max_concurrency: int = DEFAULT_CONCURRENCY
    #: It is what one process can do, as with threads of its own, and not what one thing outside takes.
    is_limit_of_process: bool = False
    timeout_s: float = 60.0
    retries: int = 2
    #: A phrase for explain that says why it is taken for what it is.
    reason: str | None = None
    #: The parameter by which calls may be gathered; the operator then is a GatheringOperator.
    lookup: str | None = None
    #: So many calls for each row whose answers are a list; None for one call.
    num_samples: int | None = None
    #: The files that it reads or writes, from the flow's folder: no output may replace them.
    files: tuple[str, ...] = ()
    #: None where nothing is known of its payloads.
    payload: PayloadForm | None = None


@dataclass(slots=True)
class BoundCall:
    """An operator on one row, rendered."""

    #: JSON types only. It holds everything that decides the result (the spec's constants too), with secrets still as
    #: `${env:NAME}`; two calls of an operator are the same when their payloads are equal.
    payload: Any
    #: The messages of an LLM call, in order.
    prompt: tuple[Message, ...] = ()
    max_tokens: int | None = None
    #: False where files must be looked at before its payload says everything; its operator is a PreparingOperator.
    is_prepared: bool = True
    #: The question that a person answers in place of the operator; None for every call that is run.
    question: str | None = None


@dataclass(slots=True)
class Outcome:
    """The result of one call."""

    #: JSON types only.
    value: Any
    #: None for a call without an engine.
    usage: Usage | None = None


class CallContext(Protocol):
    """The means that a running call may use.

    `idempotency_key`: the same for every attempt of one effect, in every process.
    """

    @property
    def secrets(self) -> Secrets: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def request_id(self) -> str: ...
    @property
    def idempotency_key(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def max_concurrency(self) -> int:
        """Return how many calls run at once, at most, where this one runs; the same for all calls of a pool."""
        ...

    @property
    def priority(self) -> int: ...
    @property
    def about(self) -> Mapping[str, Any]:
        """Return what the call is for, as GenerateRequest.about."""
        ...

    @property
    def needs_first_token(self) -> bool:
        """Return whether other calls wait for `prefill_ended`, as GenerateRequest.needs_first_token."""
        ...

    def prefill_ended(self) -> None:
        """Called once when the first output token is there."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a step that can be seen before its first call."""

    #: One sentence without the step's name, which the reader is told.
    what: str
    #: A sentence that says what to do.
    hint: str | None = None
    #: Each call of the step would fail.
    is_fatal: bool = False
    #: It was seen in outside state (a database, a server), so an earlier step of the same run may mend it.
    is_of_state: bool = False


@dataclass(frozen=True, slots=True)
class Inspection:
    """The means that `inspect` has."""

    #: By row number, the calls that can be rendered before the run; none where the step reads what other steps give.
    #: They are of the first `num_inspected` of `num_rows` rows, less those that never come to the step.
    calls: Mapping[int, tuple[BoundCall, ...]]
    secrets: Secrets
    #: The seconds that it has; then it is cancelled.
    timeout_s: float
    num_rows: int = 0
    num_inspected: int = 0
    #: The engine of an LLM step, None where its tokenizer cannot be had.
    engine: EngineOutline | None = None

    def rows(self, num_rows: int) -> str:
        """Return so many rows of those looked at as a phrase."""
        if self.num_inspected == self.num_rows:
            return f"{num_rows:,} of {self.num_rows:,} rows"
        return f"{num_rows:,} of the first {self.num_inspected:,} rows"


class Operator(Protocol):
    """One kind of step. An instance serves all its steps of one run.

    `check`, `traits`, `shape` and `bind` are pure. `run` may be called many times at once on one event loop
    and never blocks it; it raises CallError, and nothing else, for what is not a bug.
    """

    name: str
    Spec: type[OperatorSpec]

    def __init__(self, base_dir: Path) -> None:
        """`base_dir`: the flow file's folder (the working directory for a flow built in Python); relative paths
        and modules that a spec names are found from there. Opens nothing."""
        ...

    def check(self, spec: Any, engines: Mapping[str, EngineBlock]) -> None:
        """Raise FlowError for what is wrong and pydantic cannot see. `where` is None or names the field, as in
        "params.id": bind turns it into a place in the file."""
        ...

    def traits(self, spec: Any) -> Traits: ...

    def shape(self, spec: Any) -> Shape: ...

    def bind(self, spec: Any, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        """Render `spec` for one row; `engines` maps names to identities. OperatorError for a bad row."""
        ...

    async def run(self, call: BoundCall, context: CallContext) -> Outcome: ...

    async def close(self) -> None:
        """Release connections; called once, at the end of the run."""
        ...


class GatheringOperator(Operator, Protocol):
    """An operator that can answer calls of one step by one request, where its traits name a `lookup`."""

    def group_of(self, spec: Any, call: BoundCall) -> Hashable | None:
        """Return the group of a call. Calls of one group may be gathered; None for a call that must run alone. Pure."""
        ...

    async def run_gathered(
        self, spec: Any, calls: Sequence[BoundCall], context: CallContext
    ) -> Sequence[Outcome | None]:
        """Return the outcome of each call of one group, exactly as it would be alone; None where that is not certain,
        and the call must run alone. CallError where the one request failed, which says nothing about any call."""
        ...


@runtime_checkable
class PreparingOperator(Protocol):
    """An operator whose calls may name files that decide their results."""

    async def prepare(self, call: BoundCall) -> BoundCall:
        """Return an unprepared call with what its files hold in the payload; OperatorError for a bad file."""
        ...


class InspectingOperator(Operator, Protocol):
    """An operator that can tell what is wrong with a step before any call, paid or not, is made."""

    async def inspect(self, spec: Any, given: Inspection) -> Sequence[Finding]:
        """Return what is wrong, nothing where all is well. It may connect and read; it never changes anything outside,
        and needs no call to be in `given`. A SundogError says why it could not look: this is told and stops nothing.
        `close` is called afterwards, as after a run."""
        ...


class ListingOperator(Operator, Protocol):
    """An operator that uses tools of servers, which list them."""

    #: The words that name a server, without a tool.
    ServerSpec: type[OperatorSpec]

    def check_server(self, spec: Any) -> None:
        """Raise FlowError as `check` does, for a server."""
        ...

    async def list_tools(self, spec: Any, secrets: Secrets) -> ServerTools:
        """Ask a server for its tools, within a time limit; OperatorError where there is no list."""
        ...

    def tool_step(self, spec: Any, tool: ServerTool, *, effect: bool | None, trust: bool) -> Mapping[str, Any]:
        """Return the step that uses a tool, as a flow would write it: the operator with its data, and modifiers.
        `effect`: what the flow says of it; `trust`: the flow believes what the server says of its tools. Pure."""
        ...


class AddressedOperator(Operator, Protocol):
    """An operator whose pools have addresses, as hosts and databases do, by which a flow may limit them."""

    def address_of(self, spec: Any) -> str:
        """Return the address of a step's pool as a user writes it, without user, password and options. Pure."""
        ...

    def pool_at(self, address: str) -> str | None:
        """Return the pool at `address`, None where that is no address of this operator's. Pure. FlowError for one that
        stands for no single pool; its text holds no part of the address that may be secret."""
        ...


@runtime_checkable
class PlacedOperator(Protocol):
    """An operator whose steps may need what lies on one machine only."""

    def bound_to_machine(self, spec: Any) -> Finding | None:
        """Return what keeps a step from running in processes on several machines (a fatal finding), or what each of
        them has for itself; None where nothing is to say. The flow's folder is the same on all of them. Pure, but for
        a look at this machine's files."""
        ...


class ModularOperator(Operator, Protocol):
    """An operator whose steps run code of the user's."""

    def modules(self, spec: Any) -> Mapping[str, str]:
        """Return digests by path, from the flow's folder, of the files that the step's code is in. A run goes on only
        with the code that it began with."""
        ...


OPERATORS: Registry[type[Operator]] = Registry("sundog.operators", "operator")
