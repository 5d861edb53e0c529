"""The status of a batch run, for the same page as a server's.

Owns which figures of a run stand where. What the state folder holds of it, runtime.watched_run reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sundog.runtime.watched_run import RowFailure, RunStanding
from sundog.serve.seeing.status import FailureCount, FailureMessage, FlowStatus, SavingsStatus, Status, StepStatus
from sundog.store.totals import NodeTotals

NUM_LAST_SHOWN = 20
MAX_MESSAGE_CHARACTERS = 160


def status_of_run(standing: RunStanding, steps: Iterable[str], version: str) -> Status:
    """Return the status of a run. `steps`: in the order of its plan, as far as that is known."""
    summary = standing.summary
    flow = _flow(standing, [*steps])
    return Status(
        version=version,
        state=summary.state,
        uptime_s=summary.busy_s,
        flows=(flow,),
        engines=(),
        savings=SavingsStatus(flow.num_asked, flow.num_reused, flow.num_prompt_tokens, flow.num_cached_tokens),
        accounts=(),
        failures=tuple(_kinds(standing.failures, summary.flow)),
        last_failures=tuple(_message(one, summary.flow) for one in standing.failures[:NUM_LAST_SHOWN]),
        reload_errors={},
        run=summary.run,
    )


def _flow(standing: RunStanding, steps: list[str]) -> FlowStatus:
    summary, nodes = standing.summary, standing.nodes
    names = steps + [name for name in nodes if name not in steps]
    ended = Counter[str]()
    for counts in standing.rows.values():
        ended.update(counts)
    return FlowStatus(
        summary.flow,
        summary.state,
        None,
        summary.rows,
        None,
        dict(ended),
        sum(one.num_prompt_tokens for one in nodes.values()),
        sum(one.num_cached_tokens for one in nodes.values()),
        sum(one.num_output_tokens for one in nodes.values()),
        None,
        tuple(_step(nodes.get(name, NodeTotals(name))) for name in names),
        {table: counts for table, counts in standing.rows.items() if table},
    )


def _step(totals: NodeTotals) -> StepStatus:
    # What rows have asked for is known when they have ended: until then less is asked than executed.
    num_reused = max(0, totals.num_asked - totals.num_executed)
    return StepStatus(totals.node, None, None, totals.num_asked, totals.num_executed, num_reused, 0)


def _kinds(failures: Iterable[RowFailure], flow: str) -> Iterable[FailureCount]:
    kinds = Counter((_where(one), one.cause.partition(": ")[0]) for one in failures)
    for (where, error), number in kinds.most_common():
        yield FailureCount("row", flow, where, error, number)


def _message(failure: RowFailure, flow: str) -> FailureMessage:
    error, _, message = failure.cause.partition(": ")
    message = " ".join(message.split())
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = f"{message[: MAX_MESSAGE_CHARACTERS - 1]}…"
    return FailureMessage("", "row", flow, _where(failure), error, message)


def _where(failure: RowFailure) -> str:
    return f"{failure.table}: {failure.node}" if failure.table else failure.node
