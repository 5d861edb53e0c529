"""The arms by name, and the ones that are left out, with the reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from halo.arms.baselines import careful, operator_by_operator, plain_asyncio
from halo.arms.daft import daft
from halo.arms.dspy import dspy
from halo.arms.langgraph import langgraph
from halo.graph import Calls, Graph, Row
from sundog.errors import ConfigError, suggest
from sundog.optimizer.rules.catalog import RULE_NAMES
from sundog.sched.policy import POLICIES

Baseline = Callable[[Graph, Calls, Sequence[Row]], Awaitable[list[Any]]]

BASELINES: Mapping[str, Baseline] = {
    "asyncio": plain_asyncio,
    "careful": careful,
    "opwise": operator_by_operator,
    "langgraph": langgraph,
    "dspy": dspy,
    "daft": daft,
}
NEEDS = {"langgraph": "langgraph", "dspy": "dspy", "daft": "daft"}
OPTIONAL = ("dspy", "daft")
"""The arms of the extra bench-others; without it they are no part of a run."""
OWN_THREADS = ("daft",)
"""Threads of their own that wait for the loop: modelled time does not know them."""
WITHOUT = "sundog-without-"
WITH_POLICY = "sundog-policy-"
SLICES = "time_slices"
PLACEMENT = "placement"
DESCRIPTIONS = {
    "sundog": "sundog run, as installed",
    "sundog-naive": "sundog run --naive: every call executed, a row's steps one after the other",
    "asyncio": "plain asyncio: a coroutine for each row, a limit for each engine, replicas in turn (round robin)",
    "careful": "the careful thirty lines: a memo of equal calls, rows sorted by their shared document",
    "opwise": "operator by operator: each step for all rows, then the next step",
    "langgraph": "LangGraph: a StateGraph of the same steps, abatch",
    "dspy": "DSPy: a Module of the same steps, each row an acall, requests through dspy.LM and its cache",
    "daft": "Daft: a column for each step, filled by an asynchronous UDF",
}
LEFT_OUT = {
    "LOTUS": "sem_map puts its own instructions around every prompt, and asks the one model of its settings",
    "Ray Data": "each step is a pool of processes with clients and limits of their own, so that no limit of an engine"
    " holds over the batch; tried with the clients in one actor, 24 rows of 9 steps of 0.05 s took 22 s on 2 cores",
}


@dataclass(frozen=True, slots=True)
class FlowArm:
    """An arm that runs sundog. `without_rules`, another `policy` than the planner's, engines of which sundog is not
    told that they share a device (`has_slices` false), and engines that it does not place on workers itself
    (`has_placement` false) make an ablation."""

    is_naive: bool = False
    without_rules: tuple[str, ...] = ()
    policy: str | None = None
    has_slices: bool = True
    has_placement: bool = True


def flow_arm(name: str) -> FlowArm | None:
    """Return how the arm runs sundog; None for a baseline. ConfigError for a name that no arm has."""
    if name in BASELINES:
        return None
    if name in ("sundog", "sundog-naive"):
        return FlowArm(is_naive=name == "sundog-naive")
    rule, policy = name.removeprefix(WITHOUT), name.removeprefix(WITH_POLICY)
    if name.startswith(WITHOUT) and rule in RULE_NAMES:
        return FlowArm(without_rules=(rule,))
    if name == f"{WITHOUT}{SLICES}":
        return FlowArm(has_slices=False)
    if name == f"{WITHOUT}{PLACEMENT}":
        return FlowArm(has_placement=False)
    if name.startswith(WITH_POLICY) and policy in POLICIES.names():
        return FlowArm(policy=policy)
    ablations = [f"{WITHOUT}{one}" for one in (*RULE_NAMES, SLICES, PLACEMENT)] + [
        f"{WITH_POLICY}{one}" for one in POLICIES.names()
    ]
    known = [*DESCRIPTIONS, *ablations]
    raise ConfigError(f"there is no arm '{name}'", hint=suggest(name, known))


def default_arms() -> tuple[str, ...]:
    """All that are listed; of the optional ones those that are installed."""
    return tuple(name for name in DESCRIPTIONS if name not in OPTIONAL or is_installed(name))


def is_installed(name: str) -> bool:
    return find_spec(NEEDS[name]) is not None if name in NEEDS else True
