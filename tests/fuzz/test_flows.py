"""Mutated flows: whatever is written, the user is told where and what, or it runs. Never a traceback, never a hang."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sundog.config import read_config
from sundog.errors import Location, UserError
from sundog.explanation.explanation import Explanation
from sundog.flow.bind import load_flow
from sundog.ir.logical import LogicalPlan, Loop, Node, steps_of
from sundog.runtime.run_options import RunOptions
from sundog.session.session import plan_session
from tests.fuzz.budget import bounded, fuzz
from tests.fuzz.flow_corpus import flows, runnable_flows, write_rows
from tests.fuzz.mutations import MUTATIONS, mutated_data, mutated_text

Mutations = list[tuple[int, int, int, int]]

TEXTS = flows()
RUNNABLE = runnable_flows()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flows")
    write_rows(path)
    return path


def loaded(folder: Path, text: bytes) -> LogicalPlan | UserError:
    """The plan, or what the user is told."""
    path = folder / "flow.yaml"
    path.write_bytes(text)
    try:
        return load_flow(path)
    except UserError as error:
        return error


def explained(folder: Path, plan: LogicalPlan) -> str | UserError:
    """Return what explain shows, or what the user is told."""
    try:
        session = plan_session(plan, folder, read_config(folder / "state"))
        return (explanation := Explanation(session)).shown(explanation.document(), "text")
    except UserError as error:
        return error


def tried(folder: Path, text: bytes) -> None:
    """Load, plan and explain."""
    with bounded():
        found = loaded(folder, text)
        if isinstance(found, UserError):
            _check_told(found, text)
        elif _reads_only_its_rows(found):
            shown = explained(folder, found)
            assert shown if isinstance(shown, str) else shown.what


def _check_told(error: UserError, text: bytes) -> None:
    """Check that the user is told what is wrong, and where in the file, or in one that it takes in."""
    assert error.what.strip()
    assert isinstance(error.where, Location), f"it does not say where: {error}"
    if Path(error.where.file).name != "flow.yaml":
        text = Path(error.where.file).read_bytes()
    num_lines = len(re.findall(rb"\r\n|\n|\r|\xc2\x85|\xe2\x80[\xa8\xa9]", text)) + 1
    assert 1 <= error.where.line <= num_lines + 1


def _reads_only_its_rows(plan: LogicalPlan) -> bool:
    """A mutated path may be a glob over everything, a mutated function anything."""
    return all(source.path in ("tickets.jsonl", "products.csv", "tickets*.jsonl") for source in plan.inputs)


@fuzz(1.0)
@given(st.sampled_from(TEXTS), MUTATIONS)
def test_flows_with_wrong_text(folder: Path, text: str, mutations: Mutations) -> None:
    tried(folder, mutated_text(text, mutations).encode("utf-8", "surrogatepass"))


@fuzz(1.0)
@given(st.sampled_from(TEXTS), MUTATIONS)
def test_flows_with_wrong_values(folder: Path, text: str, mutations: Mutations) -> None:
    data = YAML(typ="safe", pure=True).load(text)
    tried(folder, json.dumps(mutated_data(data, mutations)).encode())


@fuzz(0.2)
@given(st.sampled_from(RUNNABLE), MUTATIONS)
def test_mutated_flows_that_load_run_to_an_end_of_every_row(folder: Path, text: str, mutations: Mutations) -> None:
    """Every row is output, left out or failed, or the user is told before anything runs."""
    data = mutated_data(YAML(typ="safe", pure=True).load(text), mutations)
    with bounded():
        plan = loaded(folder, json.dumps(data).encode())
        if isinstance(plan, UserError) or not _is_quick(plan):
            return
        try:
            session = plan_session(plan, folder, read_config(folder / "state"))
            with session.open_run(RunOptions(folder / "state", is_fresh=True)) as run:
                report = asyncio.run(run.execute())
        except UserError as error:
            ended = [error.what]
        else:
            ended = ["row"] * (report.num_done + report.num_failed + report.num_dropped)
            assert len(ended) == run.record.num_rows, "a row is lost"
    assert all(ended)


def _is_quick(plan: LogicalPlan) -> bool:
    """Runs nothing but the engine without a model, which may be told to wait, and few turns."""
    steps = list(steps_of(plan.nodes))
    blocks = [block for block in plan.engines if block.kind == "null"]
    return (
        _reads_only_its_rows(plan)
        and all(step.operator == "llm" for step in steps)
        and len(blocks) == len(plan.engines)
        and not any(block.options.get(option) for block in blocks for option in ("latency_s", "step_time", "load_s"))
        and all(isinstance(loop.max_turns, int) and loop.max_turns <= 5 for loop in _loops(plan.nodes))
    )


def _loops(nodes: tuple[Node, ...]) -> list[Loop]:
    loops = [node for node in nodes if isinstance(node, Loop)]
    return [*loops, *(inner for loop in loops for inner in _loops(loop.body))]


@fuzz(0.2)
@given(st.sampled_from(TEXTS), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4))
def test_flows_with_wrong_bytes(folder: Path, text: str, changes: list[tuple[int, int]]) -> None:
    raw = bytearray(text.encode())
    for at, byte in changes:
        raw[at % len(raw)] = byte
    tried(folder, bytes(raw))
