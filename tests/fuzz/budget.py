"""The budget of the fuzz tests: how much is tried, and how long one example may take.

Owns `--fuzz-examples` as settings of hypothesis, and the limit of one example. Never makes an example.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from hypothesis import HealthCheck, Phase, settings

DEFAULT_EXAMPLES = 150
MAX_CPU_S = 5.0
"""Processor time and not the clock: what else the machine does must not fail a test."""

_num_examples = DEFAULT_EXAMPLES


def set_examples(number: int) -> None:
    """Called once, before tests are imported: decorators are evaluated then and cannot ask pytest for its options."""
    global _num_examples
    _num_examples = number


def fuzz(share: float = 1.0) -> settings:
    """Settings for a property of this folder: `share` times `--fuzz-examples` examples.

    Without the option the examples are the same in every run, so that a commit fails only for what it changes.
    """
    return settings(
        max_examples=max(1, round(share * _num_examples)),
        derandomize=_num_examples == DEFAULT_EXAMPLES,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )


class Hang(BaseException):
    """An example took too long. It is no Exception, so that no guard of the tested code makes a value of it."""


@contextmanager
def bounded(cpu_s: float = MAX_CPU_S) -> Iterator[None]:
    """Raise Hang where the body uses more than `cpu_s` of processor time, in all threads together."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Hang(f"not done after {cpu_s:g} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
