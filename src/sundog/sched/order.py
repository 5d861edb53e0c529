"""Ranks: which waiting request runs first. Pure."""

from __future__ import annotations

from sundog.sched.views import RequestView, SchedView


def first_come(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """In order of arrival. Loses when many prompts share prefixes: neighbours in time are no neighbours in text."""
    return (request.arrival_time,)


def shared_prefix_adjacent(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Prompts with a common prefix run side by side, so that its KV blocks are warm and few are needed at once.

    Rows that have begun come first. Then the leaves of a radix tree met depth first, in the order in which its branches
    first came, a child right after the prompt that it extends (Helium, arXiv 2603.16104, section 5; BatchLLM, arXiv
    2412.03594, section 4); no new group overtakes an older one. Rows in order within a group; among tools, which have
    no prompt, what the plan needs soonest first. While the cache has room for everything, the rows with most steps to
    come go first instead: the batch ends with fuller steps.
    """
    first = request.depth if sched.is_roomy else -request.is_successor
    return (first, *request.prefix_order, -1.0, request.need_s, request.row_index, request.depth)
