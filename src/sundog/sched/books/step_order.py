"""The core's book on orders of steps: where each step stands in the plan of its flow.

Owns the places, which ranks read. Never ranks; policies do.
"""

from __future__ import annotations

from sundog.sched.events import StepsOrdered
from sundog.sched.facts import step_id
from sundog.sched.views import SchedView


class StepOrderBook:
    """`sched` is the core's; its `step_places` are written here."""

    def __init__(self, sched: SchedView) -> None:
        self._by_flow: dict[str, dict[str, int]] = {}
        self._sched = sched

    def order(self, event: StepsOrdered) -> None:
        """Take in the order of a flow's steps, in place of the one that it had."""
        steps = (step_id(event.flow, step) for step in event.steps)
        self._by_flow[event.flow] = dict(zip(steps, event.places, strict=True))
        self._sched.step_places = {step: place for places in self._by_flow.values() for step, place in places.items()}
