"""Runs vLLM's scheduler and sundog's, without a model, and prints what they did as JSON: run by test_scheduler.py with
an interpreter that has vLLM."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

from vllm_scheduler import Ask, Driven

from sundog.errors import ConfigError
from sundog.sched import catalog
from sundog.sched.policy import POLICIES, PolicySet
from sundog.vllm_plugin import engine_check
from sundog.vllm_plugin.control_calls import answer_control_call
from sundog.vllm_plugin.engine_types import EngineScheduler

Envelopes = Callable[[int], Mapping[str, Any] | None]
MAX_STEPS = 3000


def trace(
    policy: str | None, envelope: Envelopes, *, num_blocks: int, seed: int, is_async: bool = False
) -> dict[str, Any]:
    """Forty requests of mixed lengths, arriving a few at each step; every third begins with the same 48 tokens."""
    draw = random.Random(seed)
    shared = [draw.randrange(10, 300) for _ in range(48)]
    asks = []
    for number in range(40):
        own = [draw.randrange(10, 300) for _ in range(draw.randrange(5, 120))]
        prompt = shared + own if number % 3 == 0 else own
        num_output_tokens = draw.randrange(1, 60)
        asks.append(Ask(f"r{number}", prompt, num_output_tokens, 64, float(number), envelope(number)))
    driven = Driven(policy, num_blocks=num_blocks, is_async=is_async)
    waiting, steps, ended = list(asks), [], []
    num_preempted = 0
    while waiting or driven.scheduler.has_requests():
        for _ in range(draw.randrange(3)):
            if waiting:
                driven.ask(waiting.pop(0))
        output = driven.schedule()
        num_preempted += len(output.preempted_req_ids or ())
        blocks = {one.req_id: one.block_ids for one in output.scheduled_new_reqs}
        steps.append([list(output.num_scheduled_tokens.items()), blocks])
        ended += driven.finish(output)
        assert len(steps) < MAX_STEPS, "no progress"
    return {"steps": steps, "ended": ended, "num_preempted": num_preempted}


def nothing(number: int) -> None:
    return None


def workflow(number: int) -> dict[str, Any]:
    return {"flow": "f", "node": f"n{number % 2}", "workflow": f"w{number}", "tenant": f"t{number % 3}"}


def stock_alike() -> dict[str, Any]:
    """Requests without an envelope, with room and without, for every policy set: which differ from vLLM's steps."""
    different, num_preempted = [], 0
    for num_blocks, seed in ((40, 1), (400, 2)):
        stock = trace(None, nothing, num_blocks=num_blocks, seed=seed)
        num_preempted += stock["num_preempted"]
        for policy in POLICIES.names():
            if trace(policy, nothing, num_blocks=num_blocks, seed=seed) != stock:
                different.append([policy, num_blocks])
    return {"different": different, "num_preempted": num_preempted, "policies": POLICIES.names()}


def ahead() -> dict[str, Any]:
    """The same for the schedulers that schedule ahead."""
    stock = trace(None, nothing, num_blocks=40, seed=5, is_async=True)
    ours = trace("continuum", nothing, num_blocks=40, seed=5, is_async=True)
    ended = trace("continuum", workflow, num_blocks=40, seed=5, is_async=True)["ended"]
    return {"is_alike": ours == stock, "num_preempted": stock["num_preempted"], "num_ended": len(set(ended))}


def all_end() -> dict[str, Any]:
    """Run with envelopes and under pressure, and return how many of the forty ended, by policy set."""
    return {policy: len(set(trace(policy, workflow, num_blocks=40, seed=3)["ended"])) for policy in POLICIES.names()}


def mixed() -> dict[str, Any]:
    """Only some have an envelope."""
    ended = trace("fcfs", lambda number: workflow(number) if number % 2 else None, num_blocks=40, seed=4)["ended"]
    return {"num_ended": len(set(ended))}


def order() -> list[str]:
    """One runs at a time; ranks are by what the envelope says is left."""
    driven = Driven("shortest_remaining", max_num_seqs=1)
    for number, left in enumerate((5, 900, 40, 300)):
        driven.ask(Ask(f"r{left}", [20] * 20, 3, 8, float(number), {"workflow": f"w{left}", "remaining_tokens": left}))
    return ended_of(driven)


def victims() -> list[list[str]]:
    """Three long answers do not fit together: who is preempted, by rank and in stock vLLM."""
    found = []
    for policy in (None, "shortest_remaining"):
        driven = Driven(policy, num_blocks=16, max_num_seqs=3)
        for number, left in enumerate((100, 900, 500)):
            envelope = {"workflow": f"w{left}", "remaining_tokens": left}
            driven.ask(Ask(f"r{left}", [left + one for one in range(33)], 90, 120, float(number), envelope))
        while not (output := driven.schedule()).preempted_req_ids:
            driven.finish(output)
        found.append(sorted(output.preempted_req_ids))
    return found


def ended_of(driven: Driven) -> list[str]:
    ended: list[str] = []
    while driven.scheduler.has_requests():
        ended += driven.step()[1]
    return ended


def cached_after_pressure(policy: str | None, *, is_pinned: bool = False) -> dict[str, Any]:
    """A program's first turn of 96 tokens; others, one at a time, that need the other ten blocks; its second turn:
    tokens that it found."""
    driven = Driven(policy, num_blocks=17)
    history = list(range(10, 106))
    told = {} if is_pinned else {"steps_to_next_use": 1}
    driven.ask(Ask("turn0", history, 3, 4, 0.0, {"workflow": "w", "last_turn": False, **told}))
    driven.step()
    answers = []
    if is_pinned:
        answers.append(json.loads(answer_control_call(driven.scheduler, "pin", '{"workflow": "w", "ttl_s": 60}')))
    ended = ended_of(driven)
    for number in range(4):
        driven.ask(Ask(f"other{number}", [200 + number] * 120, 20, 30, 1.0 + number))
        ended += ended_of(driven)
    driven.ask(Ask("turn1", [*history, 300, 301], 2, 4, 9.0, {"workflow": "w", "turn": 1}))
    first = driven.step()[0]
    if is_pinned:
        answers.append(json.loads(answer_control_call(driven.scheduler, "unpin", '{"workflow": "w"}')))
    return {"cached": 98 - first["turn1"], "num_ended": len(ended + ended_of(driven)), "answers": answers}


def full_pressure() -> dict[str, Any]:
    """Everything is kept or pinned, and a request needs every block."""
    driven = Driven("kvflow", num_blocks=17)
    for number in range(2):
        envelope = {"workflow": f"w{number}", "last_turn": False, "steps_to_next_use": 0}
        driven.ask(Ask(f"turn{number}", [number * 100 + one for one in range(10, 106)], 2, 4, 0.0, envelope))
    ended_of(driven)
    pinned = json.loads(answer_control_call(driven.scheduler, "pin", '{"workflow": "w0", "ttl_s": 60}'))
    before = json.loads(answer_control_call(driven.scheduler, "state", ""))
    driven.ask(Ask("large", [7] * 240, 5, 8, 1.0))
    ended = ended_of(driven)
    return {
        "pinned": pinned,
        "before": before,
        "ended": ended,
        "after": json.loads(answer_control_call(driven.scheduler, "state", "")),
    }


def controls() -> dict[str, Any]:
    driven = Driven("kvflow")
    driven.ask(Ask("a", [1] * 40, 5, 8, 0.0, {"workflow": "w", "tenant": "t", "last_turn": False, "tool": "grep"}))
    driven.ask(Ask("b", [2] * 40, 5, 8, 0.0, {"workflow": "v", "tenant": "t"}))
    driven.ask(Ask("c", [3] * 40, 5, 8, 0.0))
    driven.step()
    calls = {
        "tenant": ("request_ids", '{"tenant": "t"}'),
        "workflow": ("request_ids", '{"tenant": "t", "workflow": "v"}'),
        "none": ("request_ids", "{}"),
        "wrong": ("pin", '{"workflow": "w"}'),
        "absent": ("pin", '{"workflow": "x", "ttl_s": 1}'),
        "plan": ("plan", '{"steps_to_next_use": {"w": 3, "x": 1}}'),
        "steps": ("steps", '{"since": 0}'),
        "state": ("state", "{}"),
    }
    return {name: json.loads(answer_control_call(driven.scheduler, call, text)) for name, (call, text) in calls.items()}


def refusals() -> dict[str, Any]:
    class FutureScheduler(EngineScheduler):
        frobnicate: int

    classes = {"vllm.v1.core.sched.scheduler:Scheduler": FutureScheduler, "vllm.v1.gone:Scheduler": EngineScheduler}
    found: dict[str, Any] = {"names": list(engine_check.missing_names(classes))}
    engine_check.check_engine()
    try:
        Driven("no_such_policy")
    except ConfigError as error:
        found["policy"] = str(error)
    return found


def main() -> None:
    # Whatever version of sundog the interpreter has installed, its entry points are not the ones under test.
    for entry in vars(catalog).values():
        if isinstance(entry, PolicySet):
            POLICIES.add(entry.name, entry)
    runs = (stock_alike, ahead, all_end, mixed, order, victims, full_pressure, controls, refusals)
    found: dict[str, Any] = {run.__name__: run() for run in runs}
    found["kept"] = {str(policy): cached_after_pressure(policy) for policy in (None, "continuum", "kvflow")}
    found["pinned"] = cached_after_pressure("past_future", is_pinned=True)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
