"""A Ray Dataset through a flow: its rows in their order, going on where it was interrupted, and what is refused."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import sundog
from sundog.errors import ConfigError, InputError, RunError, UserError
from sundog.ray import datasets

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")]  # its own
pytest.importorskip("ray", reason="ray is not installed: pip install 'sundog[ray]'")
pytest.importorskip("fsspec", reason="Ray Data is not installed: pip install 'ray[data]'")
FLOW = """
name: mapped
engines:
  model: {kind: "null"}
inputs:
  rows: {path: nowhere.jsonl}
nodes:
  ask:
    llm: {engine: model, prompt: "About {{ row.topic }}"}
  check:
    python: {call: "checks:check", args: {id: "{{ row.id }}"}}
    retries: 0
outputs: {id: "{{ check }}", text: "{{ ask.text }}"}
"""
CHECKS = """
from pathlib import Path

def check(id):
    here = Path(__file__)
    with here.with_name("calls").open("a") as calls:
        calls.write(f"{id}\\n")
    if str(id) in here.with_name("bad").read_text().split():
        raise ValueError(f"row {id} is bad")
    return id
"""
NUM_ROWS = 60


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "checks.py").write_text(CHECKS)
    (tmp_path / "bad").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "flow.yaml"


def checked(flow: Path) -> list[str]:
    return flow.with_name("calls").read_text().split()


def dataset_of(rows: list[dict[str, Any]], num_blocks: int = 4) -> Any:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.read_op_min_num_blocks = 1  # a worker for each of many reads takes longer than the test
    return ray.data.from_items(rows, override_num_blocks=num_blocks)


def mapped(flow: Path, rows: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
    place = {"state": f"file://{flow.parent}/state", "output": f"{flow.parent}/answers/"}
    found: Any = sundog.ray.map(dataset_of(rows), flow, **{**place, "cells": 2, "progress": False, **options})
    taken: list[dict[str, Any]] = found.take_all()
    return taken


def test_rows_come_in_the_order_of_the_dataset(cluster: Cluster, flow: Path, tmp_path: Path) -> None:
    rows = [{"id": number, "topic": f"topic {number % 5}", "unread": "x"} for number in range(NUM_ROWS)]
    found = mapped(flow, rows)
    assert [row["id"] for row in found] == list(range(NUM_ROWS))
    assert len({row["text"] for row in found}) == 5
    assert mapped(flow, rows) == found
    assert len(checked(flow)) == NUM_ROWS, "the run is known again"
    assert not list((tmp_path / "temporary").rglob("*.parquet")), "the rows of the Dataset are gone"


def test_failed_rows_are_an_error_unless_they_are_allowed(cluster: Cluster, flow: Path) -> None:
    rows = [{"id": number, "topic": "tea"} for number in range(8)]
    flow.with_name("bad").write_text("3 5")
    with pytest.raises(RunError, match=r"2 of the rows have failed\n.*--errors"):
        mapped(flow, rows)
    assert [row["id"] for row in mapped(flow, rows, max_errors=2)] == [0, 1, 2, 4, 6, 7]
    assert len(checked(flow)) == 8, "the run is known again"
    flow.with_name("bad").write_text("")
    assert [row["id"] for row in mapped(flow, rows, retry_failed=True)] == list(range(8))
    assert len(checked(flow)) == 10


def test_what_does_not_fit_is_refused(cluster: Cluster, flow: Path) -> None:
    rows = [{"id": 1, "topic": "tea"}]
    with pytest.raises(ConfigError, match="is no folder of Parquet parts"):
        mapped(flow, rows, output=f"{flow.parent}/answers.parquet")
    with pytest.raises(TypeError, match="unknown option 'cels'"):
        mapped(flow, rows, cels=2)
    with pytest.raises(ConfigError, match="no input 'row'"):
        mapped(flow, rows, input="row")
    with pytest.raises(InputError, match="the Dataset has no rows"):
        sundog.ray.map(dataset_of(rows).limit(0), flow, output=f"{flow.parent}/answers/")


def test_one_process_at_a_time_makes_an_output(flow: Path) -> None:
    path = flow.parent / "rows" / "rows.parquet"
    rows = [{"id": 1}]
    with datasets._rows_on_disk(dataset_of(rows), path):
        with pytest.raises(UserError, match="another process"), datasets._rows_on_disk(dataset_of(rows), path):
            pass
        assert path.exists()
    assert not path.exists()


def test_without_ray_data_the_remedy_is_told(flow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fsspec" else name)
    with pytest.raises(ConfigError, match=r"Ray Data needs fsspec\n.*pip install 'ray\[data\]'"):
        sundog.ray.map(None, flow, output="answers/")  # type: ignore[arg-type]  # it is not looked at
