"""Autoscaling as users write it: `local=1..8:queue`, `local=1..8:finish=2h`, each with `:start=90s` and `:down=60s`.

Owns this form and what it means for a workload. How replicas come and go is sim's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import NoReturn

from sundog.cost.plan_estimate import NodeEstimate
from sundog.errors import ConfigError
from sundog.ir.pool_names import engine_pool
from sundog.sched.policies.scaling import by_queue, by_remaining_work
from sundog.sim.workload import STEADY_S, Autoscaling, Workload
from sundog.whatif.duration import seconds_of
from sundog.whatif.split import MAX_REPLICAS

OPTION = "--autoscale"
_WRITTEN = re.compile(
    r"(?P<engine>[^=]+)=(?P<least>\d{1,9})\.\.(?P<most>\d{1,9}):(?P<rule>queue|finish)(?:=(?P<target>[^:]+))?",
    re.ASCII,
)
_COUNT = re.compile(r"[1-9]\d{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ChosenScaling:
    """The replicas of one engine as a variant has them come and go."""

    min_replicas: int
    max_replicas: int
    #: Calls that one replica is to have; None for as many as it takes at once.
    num_target_calls: int | None = None
    #: When all is to have ended; None where the queue decides.
    finish_s: float | None = None
    #: Seconds until a replica that is ordered takes calls; None for what a load is known or assumed to take.
    start_s: float | None = None
    steady_s: float = STEADY_S


def read_scaling(written: Iterable[str]) -> dict[str, ChosenScaling]:
    """Return by engine what such texts say; ConfigError for another form.

    >>> read_scaling(["local=1..8:queue=16:start=90s"])["local"].num_target_calls
    16
    """
    return dict(_read(text) for text in written)


def _read(text: str) -> tuple[str, ChosenScaling]:
    first, *others = _parts(text)
    match = _WRITTEN.fullmatch(first)
    if match is None:
        _refuse(text)
    engine, least, most, target = match["engine"], int(match["least"]), int(match["most"]), match["target"]
    if not 1 <= least <= most <= MAX_REPLICAS:
        raise ConfigError(
            f"{least}..{most} is no range of replicas",
            where=f"{OPTION} {text}",
            hint=f"as in 1..8: at least one, and at most {MAX_REPLICAS:,}",
        )
    chosen = ChosenScaling(least, most)
    if match["rule"] == "finish":
        chosen = replace(chosen, finish_s=_seconds(text, "finish", target or ""))
    elif target is not None:
        chosen = replace(chosen, num_target_calls=_count(text, target))
    for part in others:
        name, _, duration = part.partition("=")
        if name == "start":
            chosen = replace(chosen, start_s=_seconds(text, name, duration))
        elif name == "down":
            chosen = replace(chosen, steady_s=_seconds(text, name, duration))
        else:
            _refuse(text)
    return engine, chosen


def _parts(text: str) -> list[str]:
    """Return `ENGINE=RANGE:RULE` and what follows it; the engine's name may have a colon."""
    engine, equals, rest = text.partition("=")
    ranged, *others = rest.split(":")
    return [f"{engine}{equals}{ranged}:{others[0] if others else ''}", *others[1:]]


def _count(text: str, number: str) -> int:
    if not _COUNT.fullmatch(number):
        _refuse(text)
    return int(number)


def _seconds(text: str, name: str, duration: str) -> float:
    seconds = seconds_of(duration)
    if seconds is None or (name == "finish" and not seconds):
        raise ConfigError(
            f"{name}={duration} is no duration",
            where=f"{OPTION} {text}",
            hint=f"as in {name}=2h, {name}=90m or {name}=45s",
        )
    return seconds


def _refuse(text: str) -> NoReturn:
    raise ConfigError(
        "not of the form ENGINE=MIN..MAX:RULE",
        where=f"{OPTION} {text}",
        hint="RULE is queue, queue=CALLS or finish=TIME; :start=TIME and :down=TIME may follow: local=1..8:finish=2h",
    )


def with_autoscaling(
    workload: Workload,
    chosen: Mapping[str, ChosenScaling],
    estimates: Sequence[NodeEstimate],
    loads_s: Mapping[str, float],
    *,
    is_batch: bool,
) -> Workload:
    """Return the workload with replicas of these engines that come and go. ConfigError for a time of a load that has no
    end."""
    engines = dict(workload.engines)
    for engine, one in chosen.items():
        if one.finish_s is not None and not is_batch:
            raise ConfigError(
                f"{OPTION} {engine}: finish is of a batch", hint="leave --arrivals and --log away, or scale by queue"
            )
        pool = engine_pool(engine)
        if pool not in engines:
            continue  # no step of this variant uses it
        num_calls = {node.node: node.calls.num_executed.expected for node in estimates if node.pool == pool}
        scaling = Autoscaling(
            by_queue if one.finish_s is None else by_remaining_work,
            one.min_replicas,
            one.max_replicas,
            loads_s.get(pool, 0.0) if one.start_s is None else one.start_s,
            one.num_target_calls or engines[pool].engine.max_concurrency,
            one.steady_s,
            inf if one.finish_s is None else one.finish_s,
            num_calls,
        )
        engines[pool] = replace(engines[pool], num_replicas=one.min_replicas, autoscaling=scaling)
    return replace(workload, engines=engines)


def scaling_notes(workload: Workload, chosen: Mapping[str, ChosenScaling]) -> Iterator[str]:
    """Yield a sentence for each autoscaled engine: by what, and what is assumed."""
    for engine, one in chosen.items():
        fleet = workload.engines.get(engine_pool(engine))
        if fleet is None or (scaling := fleet.autoscaling) is None:
            continue
        until = "" if one.finish_s is None else f", to end by {one.finish_s:,.0f} s"
        rule = f"{scaling.num_target_calls} calls each" if one.finish_s is None else "as the remaining work needs"
        assumed = f" (assumed; {OPTION} {engine}=...:start=TIME says otherwise)" if one.start_s is None else ""
        yield (
            f"'{engine}' has {one.min_replicas} to {one.max_replicas} replicas, {rule}{until}; one that is ordered"
            f" starts in {scaling.start_s:,.0f} s{assumed}, and one goes when it was not wished for in"
            f" {scaling.steady_s:,.0f} s"
        )
