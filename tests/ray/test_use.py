"""A run on a cluster as a command and as a Python program ask for it: the rows are those of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

import sundog
from sundog.errors import ConfigError
from sundog.ray.connection import connected
from tests.cli.flows import sundog as command
from tests.cli.flows import write_review
from tests.examples.stage import EXAMPLES

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.ray
pytest.importorskip("ray", reason="ray is not installed: pip install 'sundog[ray]'")


@pytest.fixture
def alone(tmp_path: Path) -> bytes:
    """The rows that one process writes."""
    write_review(tmp_path)
    ran = command(tmp_path, "run", "flow.yaml", "--output", "alone.jsonl", "--state", str(tmp_path / "alone"))
    assert ran.exit_code == 0, ran.stderr
    return (tmp_path / "alone.jsonl").read_bytes()


def test_a_command_runs_on_the_cluster(cluster: Cluster, tmp_path: Path, alone: bytes) -> None:
    words = ("--on", "ray", "--address", cluster.address, "--cells", "2", "--state", f"file://{tmp_path}/state")
    ran = command(tmp_path, "run", "flow.yaml", "--output", "out.jsonl", *words, "--json")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["num_done"] == 12
    assert (tmp_path / "out.jsonl").read_bytes() == alone
    again = command(tmp_path, "run", "flow.yaml", "--output", "out.jsonl", *words)
    assert "is finished already: 12 rows" in again.stderr


def test_a_python_program_runs_on_the_cluster(cluster: Cluster, tmp_path: Path, alone: bytes) -> None:
    flow, state = tmp_path / "flow.yaml", f"file://{tmp_path}/state"
    result = sundog.run(flow, state=state, output=tmp_path / "out.jsonl", on="ray", cells=2, progress=False)
    assert result.report.num_done == 12
    assert (tmp_path / "out.jsonl").read_bytes() == alone


def test_the_example_runs_on_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    words = ("run", str(EXAMPLES / "cluster" / "flow.yaml"), "--output", "out.jsonl")
    assert command(tmp_path, *words, "--state", "alone").exit_code == 0
    rows = (tmp_path / "out.jsonl").read_bytes()
    place = ("--on", "ray", "--address", cluster.address, "--cells", "2", "--state", f"file://{tmp_path}/state")
    ran = command(tmp_path, *words, *place)
    assert ran.exit_code == 0, ran.stderr
    assert (tmp_path / "out.jsonl").read_bytes() == rows


def test_a_process_that_is_connected_uses_no_other_cluster(cluster: Cluster) -> None:
    with connected(None), connected("auto"), connected(cluster.address):
        pass
    with pytest.raises(ConfigError, match="is connected to another Ray"), connected("10.0.0.1:6379"):
        pass


def test_functions_run_in_the_folder_of_the_flow(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(
        """
name: reading
inputs: {rows: {path: rows.jsonl}}
nodes: {read: {python: {call: "reading:word", args: {number: "{{ row.id }}"}}}}
outputs: {word: "{{ read }}"}
"""
    )
    (tmp_path / "reading.py").write_text("def word(number):\n    return open('words.txt').read().split()[number]\n")
    (tmp_path / "words.txt").write_text("one two")
    (tmp_path / "rows.jsonl").write_text('{"id": 0}\n{"id": 1}\n')
    words = ("--on", "ray", "--address", cluster.address, "--cells", "2", "--state", f"file://{tmp_path}/state")
    ran = command(tmp_path, "run", "flow.yaml", "--output", "out.jsonl", *words)
    assert ran.exit_code == 0, ran.stderr
    assert (tmp_path / "out.jsonl").read_text() == '{"word":"one"}\n{"word":"two"}\n'


def test_options_of_a_cluster_need_it(tmp_path: Path) -> None:
    write_review(tmp_path)
    with pytest.raises(TypeError, match="cells is of a run on a cluster: say on='ray'"):
        sundog.run(tmp_path / "flow.yaml", state=tmp_path / "state", cells=2)
    with pytest.raises(TypeError, match="on is 'ray' or None, not 'mars'"):
        sundog.run(tmp_path / "flow.yaml", state=tmp_path / "state", on=cast(Any, "mars"))
