"""The calls that have one result in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sundog.execution.calls.call_key import CallIdentity, RunScope, call_key
from sundog.ir.physical import CallExec, Sharing
from sundog.ir.row_ids import RowRef
from sundog.operators.base import BoundCall
from tests.execution.fakes import World, plan_of, step

BASE: dict[str, Any] = {
    "run": "r1",
    "fresh": False,
    "row": 0,
    "path": "a",
    "operator": "fake",
    "payload": {"x": 1},
}


def key(tmp_path: Any, sharing: Sharing, *, effect: bool = False, **changed: Any) -> bytes:
    of = {**BASE, **changed}
    (node,) = World(tmp_path).physical(plan_of(step("a", "x", sharing=sharing, effect=effect))).nodes
    assert isinstance(node, CallExec)
    node = replace(node, step=replace(node.step, operator=of["operator"]))
    run = RunScope(of["run"], of["fresh"], repeats_unknown_effects=False)
    return call_key(run, node, BoundCall(of["payload"]), CallIdentity(RowRef("", (of["row"],)), of["path"], 0))


@pytest.mark.parametrize(
    ("sharing", "effect", "counts"),
    [
        (Sharing.ALWAYS, False, {"operator", "payload", "fresh"}),
        (Sharing.RUN, False, {"operator", "payload", "run"}),
        (Sharing.NEVER, False, {"operator", "payload", "run", "row", "path"}),
        (Sharing.NEVER, True, {"run", "row", "path"}),
    ],
)
def test_what_counts_for_a_key(tmp_path: Any, sharing: Sharing, effect: bool, counts: set[str]) -> None:
    other = {"operator": "other", "payload": {"x": 2}, "run": "r2", "row": 1, "path": "b", "fresh": True}
    same = key(tmp_path, sharing, effect=effect)
    found = {name for name, value in other.items() if key(tmp_path, sharing, effect=effect, **{name: value}) != same}
    assert found == counts


def test_a_fresh_run_has_its_own_results(tmp_path: Any) -> None:
    keys = {key(tmp_path, Sharing.ALWAYS, run=run, fresh=True) for run in ("r1", "r2")}
    assert len(keys | {key(tmp_path, Sharing.ALWAYS)}) == 3


def test_parts_of_a_key_do_not_run_together(tmp_path: Any) -> None:
    assert key(tmp_path, Sharing.NEVER, row=1, path="1/a") != key(tmp_path, Sharing.NEVER, row=11, path="/a")
