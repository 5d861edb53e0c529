"""The report: one self-contained HTML page of all results, the summary first and the machines last.

Owns its content and the colour of each arm. Numbers come from result files, plots from `svg`, the tables from `table`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from halo.ablation import OWN
from halo.arms.catalog import DESCRIPTIONS, LEFT_OUT
from halo.results import CaseResults, geometric_mean
from halo.svg import bars, lines, lying_bars
from halo.table import (
    NOTHING_TO_SAVE,
    ablation_rows,
    arms_of,
    is_nothing_to_save,
    means_by_setting,
    notes_of,
    other_answers,
    percent,
    setting_of,
    short_rows,
    times,
)

COLOURS = dict(
    zip(
        DESCRIPTIONS,
        ("#1b6ca8", "#6fb1e0", "#8a96a3", "#d98324", "#3a9d5a", "#8f3985", "#b23a48", "#b59a2a"),
        strict=True,
    )
)
"""One colour an arm, in every plot; they can be told apart on white and on black."""
STYLE = """
:root { color-scheme: light dark; --text: #1f2933; --dim: #52606d; --line: #d9e0e6; --grid: #e4e7eb; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6eaf0; --dim: #9aa7b5; --line: #323b47; --grid: #262e38; --page: #12161c; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
body { color: var(--text); background: var(--page); overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto; }
td, th { padding: 3px 9px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
td:first-child { white-space: normal; min-width: 9em; }
figure { margin: 1rem 0; overflow-x: auto; } svg { width: 100%; min-width: 520px; }
svg text { font-size: 11px; fill: var(--dim); }
.grid { stroke: var(--grid); } .mark { stroke: var(--text); stroke-dasharray: 5 3; }
figcaption span { margin-right: 1rem; font-size: 12px; }
figcaption i { display: inline-block; width: 10px; height: 10px; margin-right: 4px; }
"""
READING = """
<p>Every arm has the same engines, prompts, limits and prefix cache, which is emptied before each run; arms take turns.
Ratios are medians over the pairs of one repetition. <b>achieved</b> is the work bound (the least time in which the
batch's distinct prefill and decode tokens could have passed the engines) over the time taken. <b>distinct calls</b> and
<b>distinct prefixes</b> say how much of the batch repeats: merging calls can save no more than that.</p>
<p>Latencies of the HTTP server depend on the request alone. <b>planning</b> is the time of reading, rewriting
and planning the flow, as a share of the run.</p>
"""


def write_report(cases: Sequence[CaseResults], path: Path) -> None:
    path.write_text(render(cases))


def render(cases: Sequence[CaseResults]) -> str:
    """The whole page; it needs nothing from elsewhere."""
    ordered = sorted(cases, key=setting_of)
    settings = [_setting(title, list(found)) for title, found in groupby(ordered, key=setting_of)]
    parts = ["<h1>sundog bench</h1>", _summary(cases), _scaling(cases), *settings, _arms(cases), _environment(cases)]
    body = "".join(parts)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>sundog bench</title><style>{STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _summary(cases: Sequence[CaseResults]) -> str:
    """The geometric means over the workloads, and how to read them."""
    means = means_by_setting(cases)
    if not means:
        return READING
    others = [arm for arm in arms_of(cases) if any(arm in group for group in means.values())]
    plot = lying_bars(means, others, COLOURS, "x", 1.0)
    intro = (
        "<p>Each bar is the time of another arm over sundog's, as the geometric mean over the workloads: 2x took twice"
    )
    intro += " as long. The line at 1x is sundog; a bar that ends before it was faster.</p>"
    return "".join(["<h2>Summary</h2>", intro, plot, _table(*short_rows(cases)), READING])


def _setting(title: str, cases: list[CaseResults]) -> str:
    arms = arms_of(cases)
    others = [arm for arm in arms if arm != OWN]
    names = {case.slug: case.label for case in cases}
    taken = {names[case.slug]: {arm: found.middle("wall_s") for arm, found in case.arms.items()} for case in cases}
    ratios = {names[case.slug]: _ratios(case, others) for case in cases}
    achieved = {names[case.slug]: {arm: _percent(case.achieved(arm)) for arm in case.arms} for case in cases}
    hits = {names[case.slug]: {arm: _percent(found.hit_rate) for arm, found in case.arms.items()} for case in cases}
    parts = [f"<h2>{escape(title)}</h2>"]
    if is_nothing_to_save(cases[0]):
        parts.append(f"<p>{NOTHING_TO_SAVE} Expect ratios near 1.</p>")
    parts += ["<h3>Time</h3>", bars(taken, arms, COLOURS, " s")]
    parts += ["<h3>Times sundog's time</h3>", bars(ratios, others, COLOURS, "x", 1.0), _mean_table(cases, others)]
    for heading, values in (("Achieved share of the work bound", achieved), ("Prefix cache hit rate", hits)):
        if any(value is not None for group in values.values() for value in group.values()):
            parts += [f"<h3>{heading}</h3>", bars(values, arms, COLOURS, " %")]
    head, rows = ablation_rows(cases)
    if rows:
        parts += ["<h3>One thing changed: times sundog's time</h3>", _table(head, rows)]
    notes = [note for case in cases for note in notes_of(case)] + other_answers(cases)
    parts += ["<h3>What every arm did</h3>", *(_detail(case, arms) for case in cases)]
    return "".join([*parts, *(f"<p>{escape(note)}</p>" for note in notes)])


def _ratios(case: CaseResults, others: Sequence[str]) -> dict[str, float | None]:
    own = case.arms.get(OWN)
    return {arm: own.ratio_to(case.arms[arm]) if own and arm in case.arms else None for arm in others}


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _mean_table(cases: Sequence[CaseResults], others: Sequence[str]) -> str:
    means = {
        arm: geometric_mean(ratio for case in cases if (ratio := _ratios(case, others)[arm]) is not None)
        for arm in others
    }
    return _table(["geometric mean", *others], [["", *(times(means[arm]) for arm in others)]])


def _detail(case: CaseResults, arms: Sequence[str]) -> str:
    """Medians of one case: a line for each arm."""
    head = (
        "arm,time s,CPU s,engines' CPU s,LLM calls,prompt tokens,computed,hit rate,output tokens,achieved,planning,"
        "failed rows"
    )
    rows = []
    for arm in arms:
        if arm not in case.arms:
            continue
        found = case.arms[arm]
        keys = ("wall_s", "cpu_s", "engine_cpu_s", "num_llm", "num_prompt_tokens", "num_computed_prompt_tokens")
        numbers = [found.middle(key) for key in keys]
        cells = [*map(_number, numbers), percent(found.hit_rate), _number(found.middle("num_output_tokens"))]
        cells += [percent(case.achieved(arm)), percent(found.planning_share, 1)]
        rows.append([arm, *cells, _number(found.middle("num_failed"))])
    workload, batch = case.workload, case.batch or {}
    shares = [f"{percent(batch.get(f'distinct_{what}_ratio'))} distinct {what}s" for what in ("signature", "prefix")]
    title = f"{case.label}, {workload.shape}: {', '.join(shares)}".replace("prefixs", "prefixes")
    return f"<h4>{escape(title)}</h4>" + _table(head.split(","), rows)


def _scaling(cases: Sequence[CaseResults]) -> str:
    """Geometric mean over the workloads of the time, for each arm, over the number of rows."""
    found: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for case in cases:
        setting = setting_of(case).rpartition(", ")[0]
        for arm in arms_of([case]):
            results = case.arms[arm]
            if results.times_s:
                found[setting][arm][case.case["num_rows"]].append(median(results.times_s.values()))
    parts = []
    for setting, arms in sorted(found.items()):
        if max(len(sizes) for sizes in arms.values()) > 1:
            points = {
                arm: [(float(size), geometric_mean(values) or 0.0) for size, values in sorted(sizes.items())]
                for arm, sizes in arms.items()
            }
            parts += [f"<h2>Scaling: {escape(setting)}</h2><p>Seconds over rows.</p>", lines(points, COLOURS, " s")]
    return "".join(parts)


def _arms(cases: Sequence[CaseResults]) -> str:
    lines_of = [f"<li><b>{escape(arm)}</b>: {escape(text)}</li>" for arm, text in DESCRIPTIONS.items()]
    left_out = [f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in LEFT_OUT.items()]
    return f"<h2>Arms</h2><ul>{''.join(lines_of)}</ul><h2>Left out</h2><ul>{''.join(left_out)}</ul>"


def _environment(cases: Sequence[CaseResults]) -> str:
    """Machines, versions, commits and seeds of all results, each value once."""
    values: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        values["seed"].add(str(case.case["seed"]))
        values["HTTP latency"].add(f"mean {case.case['http_mean_s']:g} s, Gamma")
        for run in (run for arm in case.arms.values() for run in arm.runs.values()):
            for name, value in run["machine"].items():
                if name not in ("measured_at", "load_1min"):
                    values[name].add(str(value))
    rows: list[list[str]] = [[name, ", ".join(sorted(found))] for name, found in values.items()]
    return f"<h2>Machines and versions</h2>{_table(['run', ''], rows)}"


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) and value != int(value) else f"{int(value):,}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    rest = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{first}</tr>{rest}</table>"
