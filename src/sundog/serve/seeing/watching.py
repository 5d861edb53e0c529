"""A batch run that is watched: the page of its state folder's figures, read again as it goes on.

Owns how often the folder is read: the larger the run, the longer that takes. Opens no engine and runs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from starlette.requests import Request

from sundog.present.live.kept_plan import kept_picture
from sundog.present.live.plan_picture import PlanPicture
from sundog.runtime.watched_run import RunStanding, read_standing
from sundog.serve.seeing.live_page import Pictures
from sundog.serve.seeing.status import Status
from sundog.serve.seeing.status_of_run import status_of_run

PART_OF_TIME = 10
"""Between two readings lies so many times what a reading takes."""


class WatchedRun:
    """This class looks at one run, for as many readers as there are."""

    def __init__(self, state_dir: Path, run_id: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self.run_id = run_id
        self._state_dir = state_dir
        self._now_s = now_s
        self._read: tuple[Status, Pictures] | None = None
        self._again_s = 0.0
        self._reading = asyncio.Lock()

    async def look(self, request: Request) -> tuple[Status, Pictures]:
        """Return the status as it was read last, not long ago."""
        async with self._reading:
            if self._read is None or self._now_s() >= self._again_s:
                begin_s = self._now_s()
                standing = await asyncio.to_thread(read_standing, self._state_dir, self.run_id)
                self._read = _seen(standing)
                self._again_s = self._now_s() + PART_OF_TIME * (self._now_s() - begin_s)
            return self._read


def _seen(standing: RunStanding) -> tuple[Status, Pictures]:
    picture: PlanPicture | None = None if standing.plan is None else kept_picture(standing.plan)
    status = status_of_run(standing, () if picture is None else picture.steps, version("sundog"))
    return status, {} if picture is None else {standing.summary.flow: picture}
