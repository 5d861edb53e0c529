"""The words that the shell is offered, asked as bash asks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sundog.cli.main import app
from tests.cli.flows import report_of, sundog, working_directory, write_review


def offered(folder: Path, line: str) -> list[str]:
    """The candidates for the last word of `line`."""
    environment = {
        "_SUNDOG_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    with working_directory(folder):
        result = CliRunner().invoke(app, [], prog_name="sundog", env={**os.environ, **environment})
    assert result.exit_code == 0, result.output
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sundog sh", ["show"]),
        ("sundog run fl", ["flow.yaml"]),
        ("sundog run below/", ["below/other.yml"]),
        ("sundog run flow.yaml --input ", ["rows="]),
        ("sundog run flow.yaml --policy pr", ["prefix_grouped"]),
        (
            "sundog run flow.yaml --no-rule push",
            ["push_filter", "push_take", "push_where", "push_down_filter", "push_down_when"],
        ),
        ("sundog run flow.yaml --objective c", ["cost"]),
        ("sundog run flow.yaml --placement h", ["heft", "halo_dp"]),
        ("sundog run flow.yaml --placement l", ["least"]),
        ("sundog simulate flow.yaml --engine-profile llama-3", ["llama-3-8b-a100", "llama-3-8b-h100"]),
        ("sundog simulate flow.yaml --engine-profile lo", ["local="]),
        ("sundog simulate flow.yaml --engine-profile local=llama-3-8b-h", ["local=llama-3-8b-h100"]),
        ("sundog simulate nowhere.yaml --engine-profile llama-2", ["llama-2-70b-8xh100"]),
        ("sundog simulate flow.yaml --replicas l", ["local="]),
        ("sundog simulate flow.yaml --log l", ["last"]),
        ("sundog calibrate flow.yaml --engine ", ["local"]),
        ("sundog calibrate nowhere.yaml --engine ", []),
        ("sundog model path s", ["smollm2-135m"]),
        ("sundog init --kind s", ["served"]),
        ("sundog show l", ["last"]),
    ],
)
def test_names_are_completed(line: str, expected: list[str], tmp_path: Path) -> None:
    write_review(tmp_path)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "other.yml").touch()
    (tmp_path / "below" / "rows.csv").touch()
    assert offered(tmp_path, line) == expected
    assert not (tmp_path / ".sundog").exists()


def test_run_ids_are_completed(tmp_path: Path) -> None:
    write_review(tmp_path)
    run_id = report_of(sundog(tmp_path, "run", "flow.yaml", "--json", "--state", "kept"))["run_id"]
    for command in ("show", "trace", "runs"):
        assert offered(tmp_path, f"sundog {command} --state kept r") == [run_id]
        assert offered(tmp_path, f"sundog {command} r") == []
    assert offered(tmp_path, "sundog simulate flow.yaml --state kept --log r") == [run_id]
