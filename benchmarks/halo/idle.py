"""This module tells whether other work would be measured too: what share of the processors is busy while nothing of
ours runs.

Owns the check and the wait. The load average would not do: for minutes it remembers what was just measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sundog.errors import ConfigError

MAX_BUSY_SHARE = 0.2
SAMPLE_S = 2.0
PAUSE_S = 15.0
MAX_WAIT_S = 1800.0

Say = Callable[[str], None]


def wait_until_idle(
    say: Say, sample: Callable[[], float] | None = None, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return when the machine is idle; ConfigError when it was not for half an hour. `sample`: gives the share."""
    take = sample or busy_share
    for number in range(round(MAX_WAIT_S / (PAUSE_S + SAMPLE_S))):
        share = take()
        if share <= MAX_BUSY_SHARE:
            return
        if number == 0:
            say(f"the machine is busy with other work ({share:.0%} of its processors): waiting")
        sleep(PAUSE_S)
    raise ConfigError(
        f"the machine stayed busy for {MAX_WAIT_S / 60:.0f} minutes: results are noise",
        hint="repeat the command later, it goes on where it ended, or measure all the same with --allow-busy",
    )


def busy_share(sleep: Callable[[float], None] = time.sleep) -> float:
    """The share of all processors' time that was not idle, over two seconds."""
    begin_idle, begin_all = _ticks()
    sleep(SAMPLE_S)
    idle, all_ = _ticks()
    return 1 - (idle - begin_idle) / max(1, all_ - begin_all)


def _ticks() -> tuple[int, int]:
    """Return the ticks of all processors since the start: idle, and in all."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)
