"""The facts of a call that its owner knows beyond its prompt: policies rank, admit and retain by them.

Owns their one definition. A batch takes them from its plan, a gateway from headers, the vLLM plugin from the envelope.
Never decides what follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Tier = Literal["priority", "default", "flex", "batch"]
"""A class of service. `batch` fills what the others leave."""
TIERS: tuple[Tier, ...] = get_args(Tier)
"""The soonest first."""
LOW_TIERS = TIERS[2:]
"""They wait for the others, and get a share of the starts where that would be for ever."""


@dataclass(frozen=True, slots=True)
class CallFacts:
    """Facts of one step's calls. What nobody told keeps its default, and no policy takes a default for knowledge."""

    #: Name of the flow, "" for a program whose flow is not known.
    flow: str = ""
    #: Name of the step whose call it is.
    node: str = ""
    #: True where nothing of its workflow will follow.
    is_last_turn: bool = True
    #: Name of what runs between this call and the next of its workflow, "" where nothing is known to run.
    tool: str = ""
    #: The one who is charged for it.
    tenant: str = ""
    #: The share of its tenant among those that wait; twice as much service counts as little as half of it.
    weight: float = 1.0
    #: Smaller is sooner, as in vLLM.
    priority: int = 0
    #: Bound of its answer in tokens where `num_expected_output_tokens` is less, else 0.
    max_tokens: int = 0
    #: The plan's name for the requests that share its prompt prefix.
    prefix_group: str = ""
    #: Calls of its workflow until its prompt's KV blocks are read again.
    steps_to_next_use: float | None = None
    #: Seconds from its arrival until its workflow should have ended.
    deadline_s: float | None = None
    #: Seconds of the longest path of steps after it.
    successor_path_s: float = 0.0
    #: Calls of its workflow after it.
    num_remaining_steps: float | None = None
    #: Prompt and output tokens of its workflow's calls after it, 0 where nobody told.
    num_remaining_tokens: float = 0.0
    #: The share of earlier runs in which `tool` followed, in [0, 1]; None where nothing but the plan says that it does.
    tool_share: float | None = None
    #: Seconds that `tool` takes in the mean of earlier runs, None where none has told.
    expected_pause_s: float | None = None
    #: The class of service that was asked for.
    tier: Tier = "default"
    #: Name of the program at the root of its program's parents, "" where it has none.
    root_program: str = ""

    @property
    def step_id(self) -> str:
        """The name of its step among those of all flows."""
        return step_id(self.flow, self.node)


NO_FACTS = CallFacts()


def step_id(flow: str, step: str) -> str:
    """Return the name of a step among those of all flows."""
    return f"{flow}/{step}"
