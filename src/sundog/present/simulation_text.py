"""A simulation as text: the variants side by side, then each one's engines and tools.

Owns these tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sundog.present.figures import count, dollars, energy, seconds, show_estimate
from sundog.present.simulation import LatencyFigures, PoolOutcome, SimulationDocument, VariantDocument

_HEADS = ("engine or tool", "replicas", "busy", "calls", "prompt tok", "cached", "output tok", "KV at most", "loads")
_LATENCY = ("seconds until", "number", "half", "95 of 100", "99 of 100")
_SUMMARY = ("variant", "makespan, s", "range, s", "calls/s", "replica hours", "cost")


def simulation_text(document: SimulationDocument) -> str:
    """Return all of a document as text."""
    return "\n".join(_lines(document))


def _lines(document: SimulationDocument) -> Iterator[str]:
    yield f"flow {document.flow}, simulated"
    yield ""
    yield from table([_SUMMARY, *(_summary(one) for one in document.variants)])
    if document.deadline_s is not None:
        yield ""
        yield f"the fewest machines that end within {seconds(document.deadline_s)} s: {document.variants[-1].title}"
    shown = document.variants[-1:] if document.deadline_s is not None else document.variants
    for one in shown:
        yield ""
        yield from _variant(one)


def _variant(one: VariantDocument) -> Iterator[str]:
    yield f"{one.title}: {one.num_rows:,} rows, policy {one.policy}, at most {one.max_rows_in_flight:,} rows in flight"
    yield f"calls: {one.num_asked:,} asked for, {one.num_executed:,} executed"
    if one.num_failed_rows:
        yield f"rows that fail: {one.num_failed_rows:,}"
    yield ""
    yield from table([_HEADS, *(_pool(pool) for pool in one.pools)])
    yield from consumption_lines(one)
    if one.latencies:
        yield ""
        yield from table([_LATENCY, *(_latency(figures) for figures in one.latencies)])
    for line in one.assumptions:
        yield f"note: {line}"


def consumption_lines(one: VariantDocument) -> Iterator[str]:
    """Yield what engines take in energy, where their watts are known, how near they are to their optimum, and how often
    their replicas change their roles."""
    if one.energy is not None:
        unknown = [pool.pool for pool in one.pools if pool.energy is None and pool.num_prompt_tokens]
        yield f"energy: {energy(one.energy)}" + (f"; without {', '.join(unknown)}" if unknown else "")
    for pool in one.pools:
        if pool.optimum_share is not None:
            yield f"optimum: {pool.pool} reaches {pool.optimum_share:.1%} of the tokens that its arithmetic allows"
    for pool in one.pools:
        if pool.num_flips:
            yield f"roles: replicas of {pool.pool} change between prefill and decode {pool.num_flips:,} times"


def _summary(one: VariantDocument) -> tuple[str, ...]:
    shown = show_estimate(one.makespan_s, "seconds")
    cost = "-" if one.usd is None else dollars(one.usd)
    title = one.title if not one.num_failed_rows else f"{one.title} ({one.num_failed_rows:,} rows fail)"
    return title, shown.value, shown.span, count(one.calls_per_s), f"{one.replica_s / 3600:,.3f}", cost


def _latency(figures: LatencyFigures) -> tuple[str, ...]:
    shown = (seconds(value) for value in (figures.p50_s, figures.p95_s, figures.p99_s))
    return figures.what, f"{figures.count:,}", *shown


def _pool(pool: PoolOutcome) -> tuple[str, ...]:
    has_tokens = pool.num_prompt_tokens > 0
    return (
        pool.pool,
        f"{pool.num_replicas:,}",
        f"{pool.busy_share:.0%}",
        count(pool.num_calls),
        count(pool.num_prompt_tokens) if has_tokens else "-",
        "-" if pool.hit_rate is None else f"{pool.hit_rate:.0%}",
        count(pool.num_output_tokens) if pool.num_output_tokens else "-",
        "-" if pool.most_kv_usage is None else f"{pool.most_kv_usage:.0%}",
        f"{pool.num_loads:,} in {seconds(pool.load_s)} s" if pool.num_loads else "-",
    )


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells in columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
