"""The contract of what an engine's process runs: a loop that does jobs step by step.

Owns the contract and the pairs that go over the pipe. Never knows a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from sundog.engines.base import Chunk
from sundog.errors import EngineError

J_contra = TypeVar("J_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

# A job by its number, None to abort it.
JobCommand = tuple[int, Any]


class JobLoop(Protocol[J_contra, R_co]):
    """Jobs are known by numbers that their sender chooses."""

    def add(self, number: int, job: J_contra) -> None: ...

    def abort(self, number: int) -> None:
        """Free what the job holds; nothing happens if it has ended."""
        ...

    def has_work(self) -> bool: ...

    def step(self) -> Sequence[tuple[int, R_co | EngineError]]:
        """Do a part of the work, if there is any, and return what came out, each with the number of its job. Commands
        are heard between two steps."""
        ...


def is_last(result: object) -> bool:
    """Return whether no more comes of a job after this: all but the chunks of an answer that goes on."""
    return not isinstance(result, Chunk) or result.finish_reason is not None
