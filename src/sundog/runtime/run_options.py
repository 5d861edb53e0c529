"""The options of a run, which a command builds from its own and the Python API from its arguments.

Owns nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sundog.runtime.rows.outputs import Output


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a run."""

    state_dir: Path
    #: Files, and folders of parts, by table; the rows of tables without one are kept in the store only.
    outputs: Mapping[str, Output] = field(default_factory=dict)
    is_fresh: bool = False
    #: Failed rows that are still allowed, None for any number.
    max_errors: int | None = None
    #: Failed rows of a finished run run again.
    retry_failed: bool = False
    #: Effects whose outcome a crash left unknown run again.
    repeat_unknown_effects: bool = False
    #: Effects that another run of the flow has made over the same input may run again.
    repeat_effects: bool = False
    #: The most that its calls may cost, over all processes that work on the run; None for no limit.
    max_usd: float | None = None
    #: As `max_usd`, the tokens of their prompts and answers.
    max_tokens: int | None = None
    #: Seconds after the run began from which on no call starts.
    deadline_s: float | None = None
    #: The rows of each table are sorted into so many files first, at most, from which the run and whoever goes on with
    #: it read; None for none.
    num_buckets: int | None = None
