"""The facts that a request carries of the workflow it belongs to: one JSON object under one key.

Owns the envelope's form and its check. Never decides what follows from it.

Over HTTP the object travels as JSON text, since `vllm_xargs` takes no nested objects: `{"vllm_xargs": {"sundog":
"{...}"}}`. In-process it may be the object itself: `SamplingParams(extra_args={"sundog": {...}})`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sundog.errors import UserError
from sundog.sched.facts import CallFacts, Tier

ENVELOPE_KEY = "sundog"


class BadEnvelope(UserError):
    """Raised for a request whose envelope cannot be read, with the first wrong field in `what`; caught by `register`,
    which makes vLLM refuse the request, and by the policy, which counts those that come another way."""


class Envelope(BaseModel):
    """The facts that a request carries of its workflow."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    #: The name of the flow; lengths of answers are remembered by flow and node together.
    flow: str = ""
    #: The name of the step.
    node: str = ""
    #: One row's run of the flow, or one agent's program: its requests are turns of it.
    workflow: str = ""
    #: Counts from 0.
    turn: int = Field(default=0, ge=0)
    #: Nothing of this workflow will follow.
    last_turn: bool = True
    #: Requests of a group share a prompt prefix.
    prefix_group: str = ""
    #: Calls of the workflow until the prompt's blocks are read again.
    steps_to_next_use: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    expected_output_tokens: int | None = Field(default=None, ge=1)
    #: Seconds from arrival until the workflow should have ended.
    deadline_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    #: Seconds of the longest path of steps after this request.
    successor_path_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    #: Calls of its workflow after this one.
    remaining_steps: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    #: Prompt and answer tokens of those calls.
    remaining_tokens: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    #: The one who is charged.
    tenant: str = ""
    #: The name of what runs between this turn and the next.
    tool: str = ""
    #: The share of earlier runs in which that tool ran then.
    tool_share: float | None = Field(default=None, ge=0, le=1)
    #: Seconds that it takes, as earlier runs tell.
    expected_pause_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    #: The class of service that was asked for.
    tier: Tier = "default"
    #: The workflow at the root of those that began this one.
    root: str = ""

    def facts(self) -> CallFacts:
        """Return the same in the words of the scheduler, without what stands in the request itself."""
        return CallFacts(
            flow=self.flow,
            node=self.node,
            is_last_turn=self.last_turn,
            tool=self.tool,
            tenant=self.tenant,
            prefix_group=self.prefix_group,
            steps_to_next_use=self.steps_to_next_use,
            deadline_s=self.deadline_s,
            successor_path_s=self.successor_path_s,
            num_remaining_steps=self.remaining_steps,
            num_remaining_tokens=self.remaining_tokens,
            tool_share=self.tool_share,
            expected_pause_s=self.expected_pause_s,
            tier=self.tier,
            root_program=self.root,
        )


def read_envelope(extra_args: Mapping[str, Any] | None) -> Envelope | None:
    """Return the envelope among a request's `extra_args`; None when there is none, BadEnvelope when it cannot be
    read."""
    value = None if extra_args is None else extra_args.get(ENVELOPE_KEY)
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return Envelope.model_validate_json(value)
        return Envelope.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise BadEnvelope(
            f"the envelope '{ENVELOPE_KEY}' of this request is wrong: {field + ': ' if field else ''}{first['msg']}",
            hint=f"it is a JSON object with these fields only: {', '.join(Envelope.model_fields)}",
        ) from error
