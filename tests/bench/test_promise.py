"""The harness that holds promises against runs: what it counts, and what it writes."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import machine
import promise
import pytest
from placed.counts import counts, line
from placed.known import Ran
from placed.measured import Measured, Other

KEPT = Measured(
    case="w1/2/50",
    num_llm=3,
    solver="dp",
    is_proven=True,
    num_turns=1,
    promise_s=100.0,
    planning_s=0.1,
    simulated_s=108.0,
    choosing_s=0.4,
    simulating_s=0.2,
    strict_s=104.0,
    strict_free_s=102.0,
    ran=Ran(109.0, 2, 0, 1.0),
    others={"halo_dp": Other(120.0, 110.0, 0.1), "heft": Other(110.0, 120.0, 0.1)},
)
BROKEN = replace(KEPT, case="w2/2/50", planning_s=1.6, ran=Ran(150.0, 2, 3, 1.0))
WITHOUT_HALO = replace(KEPT, case="w3/2/50", others={**KEPT.others, "halo_dp": None})


def test_a_broken_promise_is_taken_apart() -> None:
    assert BROKEN.over_promise == 1.5
    assert BROKEN.causes == {
        "run": pytest.approx(150 / 104),
        "tools": pytest.approx(104 / 102),
        "plan": pytest.approx(1.02),
    }


def test_what_cases_come_to() -> None:
    found = counts([KEPT, BROKEN, WITHOUT_HALO])
    assert found["planning_s"]["num_above_1_s_and_half_a_per_cent"] == 1
    assert found["choosing_s"]["num_above_1_s_and_half_a_per_cent"] == 0
    assert found["as_plan"]["num_within_3_percent_of_best"] == 3
    runs = found["as_run"]
    assert (runs["num_run"], runs["num_within_10_percent"]) == (3, 2)
    assert runs["num_within_10_percent_of_simulation"] == 2
    assert (runs["num_slower_than_halo_dp_by_2_percent"], runs["num_within_3_percent_of_best"]) == (1, 2)
    assert runs["worse_than_best"] == {"halo_dp": 1}
    assert runs["main_cause_where_broken"] == {"run": 1}
    assert (runs["halo_dp_over_auto"]["num"], runs["halo_dp_over_auto"]["least"]) == (2, round(110 / 150, 3))
    assert (runs["num_replans"], runs["num_planned_anew"]) == (3, 1)


def test_without_runs_there_is_no_count_of_them() -> None:
    planned = replace(KEPT, ran=None)
    assert counts([planned])["as_run"] is None
    assert line(planned).split()[-3:] == ["110.0", "110.0", "halo_dp"]


def test_a_baseline_that_answers_no_case_has_no_ratio() -> None:
    assert counts([WITHOUT_HALO])["as_plan"]["halo_dp_over_auto"] is None


def test_the_command_writes_a_line_for_each_case_and_their_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(promise, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["promise.py", "--cases", "w5/4/*", "r0/*", "--rows", "4"])
    promise.main()
    with (tmp_path / "promise.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["w5/4/4", "r0/3/4"]
    assert all(float(row["run_makespan_s"]) > 0 for row in rows)
    document = json.loads((tmp_path / "promise.json").read_text())
    assert document["counts"]["published"]["num_cases"] == 1
    assert "w5/4/4" in capsys.readouterr().out
