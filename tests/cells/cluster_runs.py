"""Runs on cells in threads, over flows whose calls a CountingServer sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sundog.cells.cluster_work import ClusterOptions, cluster_work
from sundog.config import Config, environment_secrets
from sundog.runtime.figures.report import Report
from sundog.runtime.row_work import OpenWork
from sundog.runtime.run import Run
from sundog.runtime.run_options import RunOptions
from sundog.session.choices import PlanChoices
from sundog.session.flow_file import load_plan
from sundog.session.session import NO_CHOICES, plan_session
from sundog.store.segments.cache import open_cache
from sundog.store.segments.storage import ObjectStorage
from tests.cells.threads import ThreadStarter


class Machines:
    """A state that all see, cells in threads, and drivers one after the other, each with a cache of its own."""

    def __init__(self, folder: Path, num_cells: int = 3) -> None:
        self.folder = folder
        self.starter = ThreadStarter(folder / "cells")
        self.work = cluster_work(self.starter, ClusterOptions(num_cells, folder, {}))
        #: The sentences that whoever watches the runs has been told.
        self.notes: list[str] = []
        self._num_drivers = 0

    def run(
        self,
        work: OpenWork | None = None,
        on_begun: Callable[[Callable[[], None]], object] = lambda stop: None,
        choices: PlanChoices = NO_CHOICES,
        table: str = "",
        **options: int | bool | None,
    ) -> tuple[Report, bytes]:
        """Run flow.yaml of the folder as a new process would; gives its report and what it has written. `work`: None
        for this process alone. `on_begun`: called in a thread once the run has begun, with what interrupts it. `table`:
        the one whose rows are written."""
        self._num_drivers += 1
        state = open_cache(ObjectStorage(f"file://{self.folder}/state"), self.folder / f"driver-{self._num_drivers}")
        state.catch_up()
        session = plan_session(
            load_plan(self.folder / "flow.yaml", {}), self.folder, Config(state.folder, environment_secrets()), choices
        )
        output = self.folder / "out.jsonl"
        output.unlink(missing_ok=True)

        async def execute(run: Run) -> Report:
            loop = asyncio.get_running_loop()
            watching = asyncio.ensure_future(asyncio.to_thread(on_begun, partial(_in_loop, loop, run)))
            try:
                return await run.execute(on_note=self.notes.append)
            finally:
                await watching

        with session.open_run(RunOptions(state.folder, {table: output}, **options), work) as run:  # type: ignore[arg-type]  # of all kinds
            return asyncio.run(execute(run)), output.read_bytes()


def _in_loop(loop: asyncio.AbstractEventLoop, run: Run) -> None:
    loop.call_soon_threadsafe(run.stop)
