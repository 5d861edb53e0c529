"""The choices of a user for a flow: which of its rows are taken, and how it is planned.

Owns these choices, which a command builds from its options and the Python API from its own. Never reads anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sundog.optimizer.rules.catalog import MERGE_CALLS, RULE_NAMES
from sundog.runtime.rows.row_choice import RowChoice


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The rewrites that are made."""

    #: Names of rules that are switched off.
    without: tuple[str, ...] = ()
    #: True for no rewrite at all: every call is executed, and a row's steps run one after the other.
    is_naive: bool = False

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of all rules that are not applied."""
        return RULE_NAMES if self.is_naive else self.without

    @property
    def merges_calls(self) -> bool:
        """Return whether equal calls may be executed once."""
        return MERGE_CALLS not in self.left_out

    def identity(self) -> dict[str, Any]:
        """Return what makes another run of a flow: other rules may leave other calls behind. Nothing by default."""
        chosen = {"without": sorted(set(self.without)), "is_naive": self.is_naive}
        return {} if self == Rewriting() else {"rewriting": chosen}


@dataclass(frozen=True, slots=True)
class PlanChoices:
    """The choices by which a flow is planned, for one run or one explanation."""

    rows: RowChoice = field(default_factory=RowChoice)
    rewriting: Rewriting = field(default_factory=Rewriting)
    #: Name of the policy set; None takes the planner's.
    policy: str | None = None
    #: Rows worked on at once, at least 1; None takes as many as the engines have places for.
    max_rows_in_flight: int | None = None
    #: The quantity that a placement on workers makes small; None takes the flow's.
    objective: str | None = None
    #: Name of the solver that places steps on workers.
    placement: str = "auto"
    #: The tables whose rows go to files; they are results too, whatever the flow asks for.
    outputs: tuple[str, ...] = ()
    #: The address of a server that has the models, None where the flow's own engines answer.
    via: str | None = None
