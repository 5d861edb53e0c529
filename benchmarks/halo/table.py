"""The Markdown tables: for each setting one line for each workload, the other arms as multiples of sundog's time, and
one line for each ablation; and the short table, one line for each setting.

Owns their form. Every number comes from result files; nothing is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from halo.ablation import OWN, ablations_of, is_ablation
from halo.arms.catalog import DESCRIPTIONS
from halo.results import CaseResults, geometric_mean
from sundog.errors import ConfigError

BEGIN = "<!-- bench: `sundog bench table` writes what is between these marks -->"
END = "<!-- bench end -->"
NOTHING_TO_SAVE = "Nothing repeats and all prefixes fit: the engine's own prefix cache already does most of the work."


def markdown_table(cases: Sequence[CaseResults]) -> str:
    """All settings, one after the other."""
    settings = _by_setting(cases)
    parts = [_setting(title, found) for title, found in settings]
    return "\n\n".join([*parts, *(_ablations(title, found) for title, found in settings if ablations_of(found))])


def short_table(cases: Sequence[CaseResults]) -> str:
    """The geometric means over the workloads of each setting that plain asyncio was measured in."""
    return _table(*short_rows(cases))


def short_rows(cases: Sequence[CaseResults]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the short table."""
    settings = [(title, found) for title, found in _by_setting(cases) if "asyncio" in arms_of(found)]
    others = [arm for arm in arms_of(case for _, found in settings for case in found) if arm != OWN]
    rows = [
        [title, str(len(found)), str(_num_repeats(found)), *_means(found, others), percent(_most_planning(found), 1)]
        for title, found in settings
    ]
    return ["setting", "workloads", "repetitions", *others, "achieved", "planning, at most"], rows


def means_by_setting(cases: Sequence[CaseResults]) -> dict[str, dict[str, float | None]]:
    """Return the other arms' times as multiples of sundog's, for each setting of the short table."""
    settings = [(title, found) for title, found in _by_setting(cases) if "asyncio" in arms_of(found)]
    return {title: {arm: _mean_ratio(found, arm) for arm in arms_of(found) if arm != OWN} for title, found in settings}


def _by_setting(cases: Sequence[CaseResults]) -> list[tuple[str, list[CaseResults]]]:
    return [(title, list(found)) for title, found in groupby(sorted(cases, key=setting_of), key=setting_of)]


def _num_repeats(cases: Sequence[CaseResults]) -> int:
    return max(len(arm.runs) for case in cases for arm in case.arms.values())


def _most_planning(cases: Sequence[CaseResults]) -> float | None:
    own = [case.arms[OWN].planning_share for case in cases if OWN in case.arms]
    return max((share for share in own if share is not None), default=None)


def write_into(path: Path, text: str) -> None:
    """Replace what stands between the marks; ConfigError where there are none."""
    page = path.read_text()
    if BEGIN not in page or END not in page:
        raise ConfigError("the file has no marks for the table", where=str(path), hint=f"put in: {BEGIN} and {END}")
    head, _, rest = page.partition(BEGIN)
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


def setting_of(case: CaseResults) -> str:
    """Return in words what the cases of one table have in common."""
    one = case.case
    share = {
        "none": "nothing repeats",
        "halo": "parameters repeat as in Halo",
        "zipf": "parameters repeat as Zipf says",
    }
    kv = {"large": "room for all prefixes", "small": "room for a tenth of the prompt tokens"}
    graphs = "earlier graphs, " if case.workload.is_early else ""
    return f"{one['engine']}, {graphs}{kv[one['kv']]}, {share[one['repetition']]}, {one['num_rows']} rows"


def arms_of(cases: Iterable[CaseResults]) -> list[str]:
    """The arms that any case has, without ablations: sundog first, then as they are listed."""
    found = {arm for case in cases for arm in case.arms}
    assert all(arm in DESCRIPTIONS or is_ablation(arm) for arm in found), found
    return [arm for arm in DESCRIPTIONS if arm in found]


def is_nothing_to_save(case: CaseResults) -> bool:
    return (case.case["kv"], case.case["repetition"]) == ("large", "none")


def ablation_rows(cases: Sequence[CaseResults]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the ablations: by workload, their mean, and how many pairs of runs there are."""
    names = sorted({case.label for case in cases})
    rows = [
        [
            one.change,
            *(times(one.ratios[name][0] if name in one.ratios else None) for name in names),
            times(one.mean),
            str(one.num_pairs),
        ]
        for one in ablations_of(cases)
    ]
    return ["", *names, "geometric mean", "pairs"], rows


def _ablations(title: str, cases: list[CaseResults]) -> str:
    head, rows = ablation_rows(cases)
    return (
        f"**{title}, one thing changed**: as multiples of sundog's time, median of the pairs.\n\n{_table(head, rows)}"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _setting(title: str, cases: list[CaseResults]) -> str:
    others = [arm for arm in arms_of(cases) if arm != OWN]
    head = ["workload", "distinct calls", "distinct prefixes", OWN, *others, "achieved", "planning"]
    lines = [_line(case, others) for case in cases] + [["geometric mean", "", "", "", *_means(cases, others), ""]]
    notes = [note for case in cases for note in notes_of(case)] + other_answers(cases)
    intro = f"**{title}**: median of {_num_repeats(cases)}; other arms as multiples of sundog's time, pair by pair."
    if is_nothing_to_save(cases[0]):
        intro += f" {NOTHING_TO_SAVE}"
    text = f"{intro}\n\n{_table(head, lines)}"
    return "\n".join([text, *(["", *(f"- {note}" for note in notes)] if notes else [])])


def _line(case: CaseResults, others: Sequence[str]) -> list[str]:
    own, batch, workload = case.arms.get(OWN), case.batch or {}, case.workload
    ratios = [own.ratio_to(case.arms[arm]) if own and arm in case.arms else None for arm in others]
    wall = own.middle("wall_s") if own else None
    return [
        f"{case.label} {workload.shape}",
        percent(batch.get("distinct_signature_ratio")),
        percent(batch.get("distinct_prefix_ratio")),
        "-" if wall is None else f"{wall:.2f} s",
        *(times(ratio) for ratio in ratios),
        percent(case.achieved(OWN)) if own else "-",
        percent(own.planning_share if own else None, 1),
    ]


def _means(cases: Sequence[CaseResults], others: Sequence[str]) -> list[str]:
    """Return the mean of each other arm, and of the share of the bound that sundog achieved."""

    achieved = geometric_mean(share for case in cases if OWN in case.arms and (share := case.achieved(OWN)) is not None)
    return [*(times(_mean_ratio(cases, arm)) for arm in others), percent(achieved)]


def _mean_ratio(cases: Sequence[CaseResults], arm: str) -> float | None:
    found = [case.arms[OWN].ratio_to(case.arms[arm]) for case in cases if OWN in case.arms and arm in case.arms]
    return geometric_mean(ratio for ratio in found if ratio is not None)


def notes_of(case: CaseResults) -> list[str]:
    """Return notes on what went wrong."""
    notes = []
    for arm, found in case.arms.items():
        errors = [run["error"] for run in found.runs.values() if "error" in run]
        num_failed = sum(run.get("num_failed", 0) for run in found.runs.values())
        name = f"{case.label} {arm}"
        if errors:
            notes.append(f"{name}: {len(errors)} runs failed: {errors[0].splitlines()[-1][:200]}")
        if num_failed:
            first = next(run["failures"][0] for run in found.runs.values() if run.get("failures"))
            notes.append(f"{name}: {num_failed} rows failed in all runs, as with: {first[:200]}")
    return notes


def other_answers(cases: Sequence[CaseResults]) -> list[str]:
    """One line on the arms whose answers are not all those of plain asyncio, if there are such."""
    shares = {
        arm: [share for case in cases if arm in case.arms and (share := case.share_equal(arm)) is not None]
        for arm in arms_of(cases)
    }
    ranges = [
        f"{arm} {min(found):.0%} to {max(found):.0%}" for arm, found in shares.items() if found and min(found) < 1
    ]
    return (
        [f"Answers equal to those of plain asyncio, least to most by workload: {', '.join(ranges)}."] if ranges else []
    )


def percent(share: float | None, digits: int = 0) -> str:
    return "-" if share is None else f"{share:.{digits}%}"


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
