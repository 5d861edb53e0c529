"""The steps that may be appended to a partial schedule, and the test of when two partial schedules are the same or one
is no worse.

Owns symmetry: replicas in the same state are interchangeable, and only one of their permutations is ever tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from sundog.optimizer.placement.objective import Objective
from sundog.optimizer.placement.schedule import IndexedAssignment, Schedule

Signature = tuple[int, tuple[int, ...], int, int]  # of a replica: its twins, resident models, last node, its width
ScheduleShape = tuple[int, tuple[Signature, ...]]  # done set and the multiset of signatures


def ready_nodes(schedule: Schedule) -> list[int]:
    return [node for node in range(schedule.ix.num_llm) if schedule.is_ready(node)]


def all_steps(schedule: Schedule) -> Iterator[IndexedAssignment]:
    """Yield each ready node on each set of replicas that it may take, one of each symmetric family."""
    for node in ready_nodes(schedule):
        most = schedule.ix.max_width[node]
        families = list(_families(schedule, schedule.ix.replicas_of[node]).values())
        for counts in product(*(range(min(len(family), most) + 1) for family in families)):
            if 0 < sum(counts) <= most:
                yield node, tuple(r for family, count in zip(families, counts, strict=True) for r in family[:count])


def one_of_each(schedule: Schedule, replicas: tuple[int, ...]) -> list[int]:
    """Return the first of each family of interchangeable replicas."""
    return [family[0] for family in _families(schedule, replicas).values()]


def shape_and_times(schedule: Schedule) -> tuple[ScheduleShape, tuple[float, ...]]:
    """Return the shape of a schedule and its times: of two of one shape, one with no greater times can be completed as
    well as the other."""
    ix = schedule.ix
    lanes = sorted((signature(schedule, r), schedule.free_s[r], schedule.open_s[r]) for r in range(ix.num_replicas))
    times = [free_s for _, free_s, _ in lanes]
    pending = [node for node in range(ix.num_nodes) if not schedule.done >> node & 1]
    times += [schedule.heads_s[node] for node in pending]
    if ix.rows_flow:
        times += [schedule.fed_s[node] for node in pending]
        times += [open_s for _, _, open_s in lanes]
    times += schedule.pools_s
    if ix.objective is Objective.MAKESPAN:
        times.append(schedule.end_s)
    elif ix.objective is Objective.MEAN_COMPLETION:
        times.append(schedule.sink_sum_s)
    return (schedule.done, tuple(lane for lane, _, _ in lanes)), tuple(times)


def signature(schedule: Schedule, replica: int) -> Signature:
    """Return what tells two states of a replica apart; the last node counts while a child that could reuse its KV cache
    is pending."""
    ix = schedule.ix
    last = schedule.last[replica]
    if last < 0 or ix.warm_children_mask[last] & ~schedule.done == 0:
        return ix.twins[replica], schedule.resident[replica], -1, 1
    return ix.twins[replica], schedule.resident[replica], last, schedule.last_width[replica]


def _families(schedule: Schedule, replicas: tuple[int, ...]) -> dict[tuple[Signature, float, float], list[int]]:
    families: dict[tuple[Signature, float, float], list[int]] = {}
    for replica in replicas:
        state = signature(schedule, replica), schedule.free_s[replica], schedule.open_s[replica]
        families.setdefault(state, []).append(replica)
    return families
