"""An engine's profile: its step time, how well that fits, and how large its steps get.

Owns the numbers and their JSON form. Never reads or writes a file: measured.profiles does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

from sundog.cost.energy import Power
from sundog.cost.optimum import Compute
from sundog.cost.step_time import FitError, StepTime, StepWork, decode_work, prefill_work


@dataclass(frozen=True, slots=True)
class StepLimits:
    """The largest step: tokens in it, and requests that decode in it."""

    max_step_tokens: int
    max_decode_requests: int


@dataclass(frozen=True, slots=True)
class Profile:
    """The measured profile of an engine on one machine."""

    step_time: StepTime
    limits: StepLimits
    #: Errors on the steps that made the fit.
    fitted: FitError
    #: Errors on mixed steps of other shapes.
    held_out: FitError
    #: Machine, time and load, or the source of published figures, for the reader.
    measured_on: Mapping[str, Any]
    #: Tokens that the KV cache of the machine holds; None where the profile does not say.
    max_kv_tokens: int | None = None
    #: None where the watts are unknown.
    power: Power | None = None
    #: None where the machine's arithmetic is unknown.
    compute: Compute | None = None
    #: Bytes of the KV cache that a token takes on one replica, all its devices together; None where unknown.
    kv_bytes_per_token: float | None = None

    @property
    def prefill_tokens_per_s(self) -> float:
        """The peak: full steps of one fresh prompt."""
        num_tokens = self.limits.max_step_tokens
        return num_tokens / self.step_time.seconds(StepWork(num_steps=1) + prefill_work(num_tokens))

    @property
    def decode_tokens_per_s(self) -> float:
        """The peak: full batches with little context."""
        num_requests = self.limits.max_decode_requests
        return num_requests / self.step_time.seconds(StepWork(num_steps=1) + decode_work(1, 0) * num_requests)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Profile:
        """Return the profile that `to_json` wrote; KeyError, TypeError or ValueError for anything else."""
        step_time, limits = StepTime(**value["step_time"]), StepLimits(**value["limits"])
        power, compute = value.get("power"), value.get("compute")
        profile = cls(
            step_time,
            limits,
            FitError(**value["fitted"]),
            FitError(**value["held_out"]),
            dict(value["measured_on"]),
            value.get("max_kv_tokens"),
            None if power is None else Power(**power),
            None if compute is None else Compute(**compute),
            value.get("kv_bytes_per_token"),
        )
        seconds, errors = astuple(step_time), (*astuple(profile.fitted), *astuple(profile.held_out))
        if not all(0 <= one < float("inf") for one in (*seconds, *errors)) or not any(seconds):
            raise ValueError("seconds and errors are finite and not negative, and some step takes time")
        if not all(
            1 <= one < float("inf")
            for one in (*astuple(limits), profile.max_kv_tokens or 1, profile.kv_bytes_per_token or 1)
        ):
            raise ValueError("a step holds at least one token and one request, a cache a token, and a token a byte")
        return profile


def least_seconds(work: StepWork, profile: Profile) -> float:
    """Return the work bound: the least time in which `work` can pass the engine, in steps as full as its limits allow.

    A step may hold prefill and decode, so the number of steps is the larger of the two needs; whatever `work` says of
    steps is ignored.
    """
    limits = profile.limits
    for_tokens = (work.num_prefill_tokens + work.num_decode_tokens) / limits.max_step_tokens
    num_steps = max(for_tokens, work.num_decode_tokens / limits.max_decode_requests)
    return profile.step_time.seconds(work + StepWork(num_steps=num_steps - work.num_steps))
