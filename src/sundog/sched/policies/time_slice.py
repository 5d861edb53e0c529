"""Time slices: which of the engines on one device may start requests now. Pure.

Models that share a processor slow each other: their steps take turns on it, and each is only as wide as the requests of
its own model.
"""

from __future__ import annotations

from sundog.sched.views import DeviceView, SchedView

FEW = 0.5
"""A share of what waits for another engine. Simulated: 0.25 was up to 3 % better and 0.75 up to 6 % worse."""


def widest_steps(device: DeviceView, sched: SchedView) -> str:
    """Let the engine that has the slice start requests until those that it runs, or that wait for it, are fewer than
    half of those that wait for another; then that one has it, beside what still runs. So steps are wide, and most of
    the time they have the processor to themselves. Halo (arXiv 2509.02121, section 5) keeps to a model likewise, to
    save loads.

    Measured on two cores with three copies of a model: the same requests took 1.10 times as long when all three ran at
    once as one after another (benchmarks/shared_processor.py). Loses where the processor is wider than one model's
    steps, and where one long answer is all that runs: it keeps up to two calls of another engine waiting.

    >>> device = DeviceView(num_running={"a": 4, "b": 0}, num_waiting={"a": 0, "b": 6}, sliced="a")
    >>> widest_steps(device, SchedView())
    'a'
    >>> device.num_running["a"] = 2  # fewer than half of those that wait for b
    >>> widest_steps(device, SchedView())
    'b'
    """
    if device.sliced is None:
        return _most_asked(device)
    num_own = device.num_running[device.sliced] + device.num_waiting[device.sliced]
    other = _most_asked(device)
    return other if num_own < FEW * device.num_waiting[other] else device.sliced


def _most_asked(device: DeviceView) -> str:
    return max(device.num_waiting, key=lambda pool: device.num_waiting[pool])
