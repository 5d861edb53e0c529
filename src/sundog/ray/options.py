"""This module holds what a user says of a run on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RayOptions:
    """These options say which cluster a run uses, and how much of it."""

    #: The address of a cluster: HOST:PORT, `auto`, `local`; None for what RAY_ADDRESS names, else the Ray of this
    #: machine, which is started where there is none.
    address: str | None = None
    #: The cells that work on rows; None for what the engines need.
    num_cells: int | None = None
    #: Seconds after which the run should have ended; pools of engines grow until that holds. None for as
    #: soon as can be.
    finish_in_s: float | None = None
    #: The owners of equal calls; None for what the cells need.
    num_owners: int | None = None
