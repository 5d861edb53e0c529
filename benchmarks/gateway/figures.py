"""The figures of the arms: what each round measured, and the medians of the rounds beside those without a gateway.

Owns these sums. Never measures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gateway.load import Measured

DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Point:
    """One load of one arm in one round."""

    arm: str
    num_in_flight: int
    is_streamed: bool
    measured: Measured
    #: Processor time of the gateway's processes; 0 without one.
    gateway_cpu_s: float


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return a line for each arm and load, in the order in which they were first measured. The times that an arm adds
    are those beyond the delays of the server, less the same of asking that directly."""
    groups: dict[tuple[bool, int, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.is_streamed, point.num_in_flight, point.arm), []).append(point)
    lines = {key: _line(group) for key, group in groups.items()}
    for (is_streamed, num_in_flight, arm), line in lines.items():
        direct = lines.get((is_streamed, num_in_flight, DIRECT))
        if direct is not None and arm != DIRECT:
            names = ("p50_ms", "p95_ms", "first_p50_ms")
            line |= {f"added_{name}": round(line[f"late_{name}"] - direct[f"late_{name}"], 2) for name in names}
    return list(lines.values())


def times_the_rate(lines: Iterable[Mapping[str, Any]], arm: str, other: str) -> dict[str, float]:
    """Return, for each load, how many times the answers a second of another arm an arm gives."""
    rates = {(line["arm"], _load(line)): line["answers_per_s"] for line in lines}
    return {
        load: round(rate / rates[other, load], 2)
        for (one, load), rate in rates.items()
        if one == arm and rates.get((other, load))
    }


def _load(line: Mapping[str, Any]) -> str:
    return f"{'stream' if line['is_streamed'] else 'whole'}_{line['num_in_flight']}"


def _line(group: Sequence[Point]) -> dict[str, Any]:
    """Return the medians of the rounds; processor times are those of all rounds over all their answers."""
    one, found = group[0], [point.measured for point in group]
    num_answers = sum(each.num_answers for each in found)
    names = ("p50_ms", "p95_ms", "first_p50_ms", "first_p95_ms", "late_p50_ms", "late_p95_ms", "late_first_p50_ms")
    return {
        "arm": one.arm,
        "num_in_flight": one.num_in_flight,
        "is_streamed": one.is_streamed,
        "num_answers": num_answers,
        "num_failures": sum(each.num_failures for each in found),
        "num_unanswered": sum(each.num_unanswered for each in found),
        "answers_per_s": round(median(each.num_answers / each.seconds for each in found), 1),
        **{name: round(median(getattr(each, name) for each in found), 2) for name in names},
        "cpu_ms_per_answer": _ms(sum(point.gateway_cpu_s for point in group), num_answers),
        "load_cpu_ms_per_answer": _ms(sum(each.cpu_s for each in found), num_answers),
    }


def _ms(seconds: float, num: int) -> float | None:
    return round(1000 * seconds / num, 3) if num else None
