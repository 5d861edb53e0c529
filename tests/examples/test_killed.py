"""Each example, killed half-way and started again, ends with the very bytes of an undisturbed run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sundog.runtime.kept_runs import list_runs
from tests.e2e.processes import WAIT_S, run, start
from tests.examples.stage import NULL, ONE_BY_ONE, copy_example, run_example

pytestmark = pytest.mark.slow

COMMAND = ("run", "flow.yaml", "--output", "out.csv", "--json", *ONE_BY_ONE)


def wait_for_half(folder: Path) -> int:
    """Rows that have ended, once they are half of all."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        if (folder / ".sundog").is_dir() and (found := list_runs(folder / ".sundog")):
            summary = found[0].to_dict()
            if summary["rows"] and summary["done"] * 2 >= summary["rows"]:
                return int(summary["done"])
        time.sleep(0.02)
    raise AssertionError("half of the rows did not end in time")


@pytest.mark.parametrize(
    ("name", "latency_s"),
    [("licence_audit", 0.05), ("handbook_digest", 0.3), ("draft_critique", 0.1), ("shop_agent", 0.1)],
)
def test_killed_half_way_and_continued(tmp_path: Path, name: str, latency_s: float) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    copy_example(name, calm, NULL)
    copy_example(name, killed, f'{{kind: "null", latency_s: {latency_s}}}')
    expected = run_example(calm, *ONE_BY_ONE, output="out.csv")
    process = start(killed, *COMMAND)
    num_done = wait_for_half(killed)
    process.kill()
    process.communicate(timeout=WAIT_S)
    assert not (killed / "out.csv").exists(), "the file appears whole or not at all"
    code, stdout, stderr = run(killed, *COMMAND)
    assert code == 0, stderr
    assert 0 < num_done < len(expected.rows)
    assert (killed / "out.csv").read_bytes() == (calm / "out.csv").read_bytes()
    report = json.loads(stdout)
    assert report["num_executed"] == expected.report["num_executed"], (
        "a call that ended before the kill is not repeated"
    )
