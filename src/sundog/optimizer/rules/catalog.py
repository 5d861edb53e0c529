"""The rules in the order in which they are tried.

Owns the order and its reasons. merge_calls is not among them: it takes effect when the planner decides sharing.
"""

from __future__ import annotations

from sundog.optimizer.rules.base import Rule, RuleOfTables
from sundog.optimizer.rules.drop_dead_steps import DropDeadSteps
from sundog.optimizer.rules.fold_constants import FoldConstants
from sundog.optimizer.rules.gather_lookups import GatherLookups
from sundog.optimizer.rules.hoist_prefix import HoistPrefix
from sundog.optimizer.rules.merge_subplans import MergeSubplans
from sundog.optimizer.rules.prune_columns import PruneColumns
from sundog.optimizer.rules.push_down_filter import PushDownFilter
from sundog.optimizer.rules.push_down_when import PushDownWhen
from sundog.optimizer.rules.reorder_filters import ReorderFilters

MERGE_CALLS = "merge_calls"

RULES: tuple[Rule, ...] = (
    # Nothing else needs to look at a table that is not made.
    RuleOfTables("drop_unread_tables", "DropUnreadTables"),
    # Steps become dead by it.
    RuleOfTables("drop_unread_outputs", "DropUnreadOutputs"),
    # The columns that a table still reads are known by now.
    RuleOfTables("distinct_first", "DistinctFirst"),
    # Steps may become equal, dead or free of conditions by it.
    FoldConstants(),
    # Readers of the same step then look the same too, and so does what waits for them.
    MergeSubplans(),
    # A dead step would count as a reader that always runs, and hold back filters and conditions.
    DropDeadSteps(),
    # The filters that stand at the source of a table are ordered and pushed down there.
    RuleOfTables("push_filter", "PushFilter"),
    # A filter that has moved to another table is in the way no more, or is now.
    RuleOfTables("push_take", "PushTake"),
    RuleOfTables("push_where", "PushWhere"),
    # Behind what moves to a table with one reader, as one table for both has two. What both take is then the same.
    RuleOfTables("merge_tables", "MergeTables"),
    # The cheapest filter must be the first before steps are put behind filters.
    ReorderFilters(),
    PushDownFilter(),
    # Only where no filter stands between a step and its readers; so after the filters have found their places.
    PushDownWhen(),
    # Which parameters vary is known when constants have been written in.
    GatherLookups(),
    # The columns that are still read are known by now.
    PruneColumns(),
    # Last: the prompts as they will be.
    HoistPrefix(),
)
RULE_NAMES = (*(rule.name for rule in RULES), MERGE_CALLS)
