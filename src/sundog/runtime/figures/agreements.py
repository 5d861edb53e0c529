"""The agreement of two ways in which a sample was judged, in words.

Owns what a run with such a trade says it cost. Decides nothing: the run's own query has decided.
"""

from __future__ import annotations

from collections.abc import Iterator

from sundog.ir.agreement import AGREEMENT, LEVEL, TOGETHER, Cascade, cascades_of, least_agreed, shown_share, together_of
from sundog.ir.logical import LogicalPlan
from sundog.store.store import Store


def agreement_notes(plan: LogicalPlan, store: Store, run_id: str) -> Iterator[str]:
    """Yield for each trade of a plan, as written, whose sample has been judged, what that showed."""
    for cascade in cascades_of(plan):
        for _, body in store.rows(run_id, cascade.agreed, "done"):
            counts = store.count_rows(run_id)
            num_judged = sum(number for (table, _), number in counts.items() if table == cascade.judged)
            yield _note(cascade, store.decoded(body)[AGREEMENT], num_judged)

    for one in together_of(plan):
        for _, body in store.rows(run_id, one.agreed, "done"):
            found = store.decoded(body)[TOGETHER]
            yes, yes_agreed = found["num_yes"], found["num_yes_agreed"]
            yield (
                f"prompts of {one.num_rows} pairs of '{one.table}': {found['num_agreed']:,} of {found['num']:,} sampled"
                f" pairs were judged there as alone, and {yes_agreed:,} of the {yes:,} that are a yes alone"
            )


def _note(cascade: Cascade, found: dict[str, int], num_judged: int) -> str:
    num, num_agreed = found["num"], found["num_agreed"]
    said = (
        f"cascade of '{cascade.table}': '{cascade.small}' judged {num_agreed:,} of {num:,} sampled pairs as "
        f"'{cascade.large}' did, and {found['num_yes_agreed']:,} of the {found['num_yes']:,} to which that said yes"
    )
    needed = least_agreed(cascade.num_sampled, cascade.agree)
    assert needed is not None, "the flow was refused"
    if num < cascade.num_sampled or num_agreed < needed:
        return f"{said}; that does not show an agreement of {cascade.agree:.1%}, so '{cascade.large}' judged all pairs"
    num_saved = max(0, num_judged - num)
    return (
        f"{said}; they agree on at least {shown_share(num, num_agreed):.1%} of all pairs ({1 - LEVEL:.0%} confidence), "
        f"so '{cascade.small}' judged the other {num_saved:,}"
    )
