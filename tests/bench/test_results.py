"""The figures that are counted from result files: medians, ratios of pairs, tables and the page."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from halo.report import render
from halo.results import Result, group, read_results, result_path, write_result
from halo.table import BEGIN, END, markdown_table, short_table, write_into

from sundog.errors import ConfigError

CASE = {"workload": "w4", "num_rows": 2, "repetition": "halo", "seed": 1, "engine": "null", "kv": "large"}
CASE_FULL = {**CASE, "http_mean_s": 0.5}


def result(arm: str, repeat: int, wall_s: float, **more: Any) -> Result:
    return {
        "slug": "one",
        "case": CASE_FULL,
        "arm": arm,
        "repeat": repeat,
        "machine": {"commit": "abc"},
        "wall_s": wall_s,
        "cpu_s": 0.1,
        "num_failed": 0,
        "failures": [],
        "answers": ["x", "y"],
        **more,
    }


BATCH = {"batch": {"distinct_signature_ratio": 0.25, "distinct_prefix_ratio": 0.1}, "bound_s": 3.0}
FAILED: Result = {"slug": "one", "case": CASE_FULL, "machine": {"commit": "abc"}}
RESULTS = [
    *(result("sundog", repeat, wall_s, planning_s=0.01) for repeat, wall_s in enumerate((4.0, 5.0, 6.0))),
    *(result("asyncio", repeat, wall_s, **BATCH) for repeat, wall_s in enumerate((8.0, 20.0, 18.0))),
    result("opwise", 0, 2.0, answers=["x", "other"]),
    {**FAILED, "arm": "opwise", "repeat": 1, "error": "ended with 1: boom"},
]


def test_ratios_are_of_pairs_of_one_repetition() -> None:
    (case,) = group(RESULTS)
    own = case.arms["sundog"]
    assert own.middle("wall_s") == 5.0
    assert own.ratio_to(case.arms["asyncio"]) == 3.0  # of 2, 4 and 3
    assert own.ratio_to(case.arms["opwise"]) == 0.5  # its second run has no pair
    assert case.achieved("sundog") == 3.0 / 5.0
    (exact,) = group([*RESULTS, result("careful", 1, 5.0, bound_s=2.0)])
    assert exact.achieved("sundog") == 2.0 / 5.0
    assert case.share_equal("sundog") == 1.0
    assert case.share_equal("opwise") == 0.5


def test_the_table_says_what_went_wrong() -> None:
    text = markdown_table(group(RESULTS))
    assert "| W4 bridge | 25% | 10% | 5.00 s | 3.00x | 0.50x | 60% | 0.2% |" in text
    assert "- W4 opwise: 1 runs failed: ended with 1: boom" in text
    assert "- Answers equal to those of plain asyncio, least to most by workload: opwise 50% to 50%." in text
    failed = [result("sundog", 0, 1.0, num_failed=1, failures=["SQLError: no"]), result("asyncio", 0, 1.0)]
    assert "W4 sundog: 1 rows failed in all runs, as with: SQLError: no" in markdown_table(group(failed))


def test_results_of_earlier_graphs_stand_apart() -> None:
    early = [{**one, "slug": "early", "case": {**CASE_FULL, "workload": "early_w4"}} for one in RESULTS]
    text = markdown_table(group([*RESULTS, *early]))
    assert "**null, earlier graphs, room for all prefixes, parameters repeat as in Halo, 2 rows**" in text
    assert "**null, room for all prefixes, parameters repeat as in Halo, 2 rows**" in text
    assert text.count("| W4 bridge |") == 2


def test_the_short_table_has_a_line_for_each_setting_with_asyncio() -> None:
    own = [one for one in RESULTS if one["arm"] == "sundog"]
    small = [{**one, "slug": "small", "case": {**CASE_FULL, "kv": "small"}} for one in own]
    head, _, *lines = short_table(group([*RESULTS, *small])).splitlines()
    assert head == "| setting | workloads | repetitions | asyncio | opwise | achieved | planning, at most |"
    setting = "null, room for all prefixes, parameters repeat as in Halo, 2 rows"
    assert lines == [f"| {setting} | 1 | 3 | 3.00x | 0.50x | 60% | 0.2% |"]


def test_ablations_have_a_table_of_their_own() -> None:
    changed = [
        *(result("sundog-without-merge_calls", repeat, wall_s) for repeat, wall_s in enumerate((8.0, 15.0))),
        result("sundog-policy-fcfs", 2, 5.4),
    ]
    cases = group([*RESULTS, *changed])
    text = markdown_table(cases)
    results, _, ablations = text.partition(", one thing changed**")
    assert "merge_calls" not in results
    assert ablations.endswith(
        "| without merge_calls | 2.50x | 2.50x | 2 |\n| policy fcfs | 0.90x | 0.90x | 1 |"  # of 2 and 3; of 5.4 to 6
    )
    assert "one thing changed" not in markdown_table(group(RESULTS))
    assert "<td>without merge_calls</td><td>2.50x</td>" in render(cases)


def test_where_nothing_can_be_saved_it_is_said() -> None:
    nothing = [{**one, "case": {**CASE_FULL, "repetition": "none"}} for one in RESULTS]
    for shown in (markdown_table, render):
        assert "already does most of the work" in shown(group(nothing))
        assert "already does most of the work" not in shown(group(RESULTS))


def test_the_page_shows_what_caches_and_planning_did() -> None:
    page = render(
        group([result("sundog", 0, 4.0, planning_s=0.1, num_prompt_tokens=90, num_computed_prompt_tokens=30)])
    )
    assert "Prefix cache hit rate" in page
    assert "67%" in page
    assert "2.5%" in page


def test_the_table_goes_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(page, "new")
    write_into(page, "newer")
    assert page.read_text() == f"before\n{BEGIN}\nnewer\n{END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ConfigError, match="no marks"):
        write_into(page, "new")


def test_the_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    other_size = [{**one, "slug": "two", "case": {**CASE_FULL, "num_rows": 200}} for one in RESULTS]
    page = render(group([*RESULTS, *other_size]))
    assert page.count("<svg") == 3 * 2 + 2  # time, ratio and achieved of each setting; summary and scaling
    for text in ("W4, bridge", "60%", "3.00x", "boom", "abc", "Scaling", "LangGraph", "DSPy"):
        assert text in page
    for link in ("http://", "https://", "<script", "<link", "src="):
        assert link not in page


def test_the_summary_is_first_and_the_machines_are_last() -> None:
    headings = re.findall(r"<h2>([^<]*)</h2>", render(group(RESULTS)))
    assert (headings[0], headings[-1]) == ("Summary", "Machines and versions")


def test_an_arm_has_one_colour_and_the_plots_of_ratios_have_a_line_at_1x() -> None:
    other_size = [{**one, "slug": "two", "case": {**CASE_FULL, "num_rows": 200}} for one in RESULTS]
    figures = re.findall(r"<figure>.*?</figure>", render(group([*RESULTS, *other_size])))
    colours: dict[str, set[str]] = defaultdict(set)
    for figure in figures:
        for colour, arm in re.findall(r'<i style="background:([^"]*)"></i>([^<]*)</span>', figure):
            colours[arm].add(colour)
            assert figure.count(f'"{colour}"'), "what the legend shows is in the plot"
    assert {"sundog", "asyncio"} <= colours.keys()
    assert all(len(found) == 1 for found in colours.values())
    assert len({colour for found in colours.values() for colour in found}) == len(colours)
    # The summary has one for each setting.
    assert [figure.count('class="mark"') for figure in figures] == [2, 0, 0, 1, 0, 0, 1, 0]


def test_result_files_are_read_as_written(tmp_path: Path) -> None:
    for one in RESULTS:
        write_result(result_path(tmp_path, one["slug"], one["arm"], one["repeat"]), one)
    found = read_results(tmp_path)
    assert sorted(found, key=str) == sorted(RESULTS, key=str)
    assert [path.name for path in tmp_path.rglob("*.part")] == []
