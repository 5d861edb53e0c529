"""The arms by name, and the ones that are left out, with the reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from halo.arms.baselines import careful, operator_by_operator, plain_asyncio
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
}
NEEDS = {"langgraph": "langgraph"}
WITHOUT = "sundog-without-"
WITH_POLICY = "sundog-policy-"
DESCRIPTIONS = {
    "sundog": "sundog run, as installed",
    "sundog-naive": "sundog run --naive: every call executed, a row's steps one after the other",
    "asyncio": "plain asyncio: a coroutine for each row, a limit for each engine",
    "careful": "the careful thirty lines: a memo of equal calls, rows sorted by their shared document",
    "opwise": "operator by operator: each step for all rows, then the next step",
    "langgraph": "LangGraph: a StateGraph of the same steps, abatch",
}
LEFT_OUT = {
    "DSPy": "writes its own prompts from signatures, so its requests are others; with raw calls it is plain asyncio",
    "LOTUS": "its operators write their own prompts over one table with one model at a time",
    "Daft": "a step is a UDF over a column, so that it would be operator by operator with another name",
    "Ray Data": "as Daft: a step is a map over batches; its HTTP stage sends one batch after the other",
}


@dataclass(frozen=True, slots=True)
class FlowArm:
    """An arm that runs sundog. `without_rules` and another `policy` than the planner's make an ablation."""

    is_naive: bool = False
    without_rules: tuple[str, ...] = ()
    policy: str | None = None


def flow_arm(name: str) -> FlowArm | None:
    """How the arm runs sundog; None for a baseline; ConfigError for a name that no arm has."""
    if name in BASELINES:
        return None
    if name in ("sundog", "sundog-naive"):
        return FlowArm(is_naive=name == "sundog-naive")
    rule, policy = name.removeprefix(WITHOUT), name.removeprefix(WITH_POLICY)
    if name.startswith(WITHOUT) and rule in RULE_NAMES:
        return FlowArm(without_rules=(rule,))
    if name.startswith(WITH_POLICY) and policy in POLICIES.names():
        return FlowArm(policy=policy)
    ablations = [f"{WITHOUT}{rule}" for rule in RULE_NAMES] + [f"{WITH_POLICY}{one}" for one in POLICIES.names()]
    known = [*DESCRIPTIONS, *ablations]
    raise ConfigError(f"there is no arm '{name}'", hint=suggest(name, known))


def is_installed(name: str) -> bool:
    return find_spec(NEEDS[name]) is not None if name in NEEDS else True
