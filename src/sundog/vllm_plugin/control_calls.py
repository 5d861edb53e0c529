"""The calls that can be made to the scheduler from outside, between two steps.

Owns the calls, their arguments and answers: JSON text in, JSON text out, since they cross a process. A call that cannot
be done answers `{"error": ..., "hint": ...}` and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sundog.errors import SundogError, UserError
from sundog.vllm_plugin.engine_policy import EnginePolicy
from sundog.vllm_plugin.engine_types import KVCacheBlock, KVCacheManager
from sundog.vllm_plugin.free_blocks import Hold
from sundog.vllm_plugin.telemetry import Telemetry

RPC = "sundog_rpc"
"""The method's name at the engine."""
PIN = "pin "


class Controlled(Protocol):
    """A scheduler with the mixin."""

    sundog: EnginePolicy
    telemetry: Telemetry
    kv_cache_manager: KVCacheManager
    running: list[Any]
    waiting: Any


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Nothing(_Arguments):
    pass


class Since(_Arguments):
    since: int = 0


class Plan(_Arguments):
    """Steps to the next use of a workflow's blocks, by workflow."""

    steps_to_next_use: dict[str, float]


class Pin(_Arguments):
    workflow: str
    ttl_s: float = Field(gt=0, allow_inf_nan=False)


class Unpin(_Arguments):
    workflow: str


class Selection(_Arguments):
    """Requests whose envelope has all of these."""

    flow: str | None = None
    workflow: str | None = None
    tenant: str | None = None


def state(scheduler: Controlled, _: Nothing) -> dict[str, Any]:
    """Return the counts of requests, steps and blocks at this moment."""
    sundog, pool = scheduler.sundog, scheduler.kv_cache_manager.block_pool
    kept = sundog.free_blocks
    holds = () if kept is None else kept.holds.values()
    return {
        "policy": sundog.name,
        "num_running": len(scheduler.running),
        "num_waiting": len(scheduler.waiting),
        "num_with_envelope": len(sundog.books.envelopes),
        "num_bad_envelopes": sundog.num_bad_envelopes,
        "num_steps": scheduler.telemetry.num_steps,
        "num_blocks": pool.num_gpu_blocks,
        "num_free_blocks": pool.get_num_free_blocks(),
        "num_kept_blocks": 0 if kept is None else kept.num_kept_blocks,
        "num_blocks_given_up": 0 if kept is None else kept.num_given_up,
        "pins": sorted(hold.owner.removeprefix(PIN) for hold in holds if hold.is_pin),
        "num_workflows": len(sundog.books.workflow_book.by_id),
        "acceptance_rate": None if sundog.drafts is None else sundog.drafts.acceptance_rate,
    }


def steps(scheduler: Controlled, arguments: Since) -> dict[str, Any]:
    return {"steps": scheduler.telemetry.since(arguments.since)}


def plan(scheduler: Controlled, arguments: Plan) -> dict[str, Any]:
    """Take in when workflows will read their blocks again, and return how many of them are known here."""
    workflows, kept = scheduler.sundog.books.workflow_book.by_id, scheduler.sundog.free_blocks
    known = [name for name in arguments.steps_to_next_use if name in workflows]
    for name in known:
        workflows[name].steps_to_next_use = arguments.steps_to_next_use[name]
        if kept is not None and name in kept.holds:
            kept.holds[name].steps_to_next_use = arguments.steps_to_next_use[name]
    return {"num_known": len(known)}


def pin(scheduler: Controlled, arguments: Pin) -> dict[str, Any]:
    """Keep what is there of a workflow for `ttl_s` seconds. UserError where the policy keeps nothing, or nothing is
    there."""
    sundog = scheduler.sundog
    if sundog.free_blocks is None:
        raise UserError(f"policy '{sundog.name}' keeps nothing", hint="start vLLM with another policy of sundog")
    blocks = list(_blocks_of(scheduler, arguments.workflow))
    if not blocks:
        raise UserError(f"workflow '{arguments.workflow}' runs nothing here and nothing is kept for it")
    time_s = sundog.books.sched.time_s
    hold = Hold(_pin_of(arguments.workflow), time_s + arguments.ttl_s, time_s, is_pin=True)
    sundog.free_blocks.keep(hold, blocks)
    return {"num_blocks": len(hold.blocks)}


def unpin(scheduler: Controlled, arguments: Unpin) -> dict[str, Any]:
    kept = scheduler.sundog.free_blocks
    return {"was_kept": kept is not None and kept.release(_pin_of(arguments.workflow))}


def request_ids(scheduler: Controlled, arguments: Selection) -> dict[str, Any]:
    """Return the ids of the requests whose envelope has all that `arguments` name. UserError where they name
    nothing."""
    wanted = arguments.model_dump(exclude_none=True)
    if not wanted:
        raise UserError("no selection", hint=f"give one or more of {', '.join(Selection.model_fields)}")
    envelopes = scheduler.sundog.books.envelopes.items()
    return {"request_ids": [one for one, envelope in envelopes if wanted.items() <= envelope.model_dump().items()]}


CONTROL_CALLS: dict[str, tuple[type[_Arguments], Callable[[Any, Any], dict[str, Any]]]] = {
    "state": (Nothing, state),
    "steps": (Since, steps),
    "plan": (Plan, plan),
    "pin": (Pin, pin),
    "unpin": (Unpin, unpin),
    "request_ids": (Selection, request_ids),
}


def answer_control_call(scheduler: Controlled, call: str, arguments: str) -> str:
    """Return the answer to `call` with these arguments, both as JSON text."""
    model, perform = CONTROL_CALLS[call]
    try:
        return json.dumps(perform(scheduler, model.model_validate_json(arguments or "{}")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        hint = f"arguments: {', '.join(model.model_fields) or 'none'}"
        return json.dumps({"error": f"{field + ': ' if field else ''}{first['msg']}", "hint": hint})
    except SundogError as error:
        return json.dumps({"error": error.what, "hint": error.hint})


def _pin_of(workflow: str) -> str:
    """Return its owner's name: a pin outlives the workflow's own holds."""
    return PIN + workflow


def _blocks_of(scheduler: Controlled, workflow: str) -> Iterable[KVCacheBlock]:
    sundog = scheduler.sundog
    for request_id, view in sundog.books.replica.requests.items():
        if view.workflow_id == workflow:
            return chain.from_iterable(scheduler.kv_cache_manager.get_blocks(request_id).blocks)
    hold = None if sundog.free_blocks is None else sundog.free_blocks.holds.get(workflow)
    return () if hold is None else tuple(hold.blocks)
