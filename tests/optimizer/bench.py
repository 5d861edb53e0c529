"""Runs plans on the null engine with the real dispatcher, one after another on one loop and one store."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sundog.engines.base import ENGINES
from sundog.errors import Location
from sundog.execution.row_way import RowEnd
from sundog.flow.bind import bind
from sundog.flow.positions import DataPath
from sundog.ir.logical import LogicalPlan
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.row_ids import RowRef
from sundog.operators.base import OPERATORS
from sundog.sched.catalog import FCFS
from sundog.sched.events import Event, ReplicaAdded, RequestFinished
from sundog.secrets import Secrets
from sundog.store.store import Store
from tests.optimizer.flows import EFFECTS, LOOKUPS_SCHEMA
from tests.runtime.part import Part

HERE = Location("flow.yaml", 1, 1)


class Nowhere:
    """Positions of a flow that no file holds."""

    def key(self, path: DataPath) -> Location:
        return HERE

    def value(self, path: DataPath) -> Location:
        return HERE

    def match(self, path: DataPath, pattern: re.Pattern[str]) -> Location:
        return HERE


@dataclass(frozen=True, slots=True)
class Ran:
    """The outcome of a run: how each row ended, what effects it had, how many calls were executed, and how many of them
    together."""

    ends: tuple[tuple[str, bytes], ...]
    effects: dict[Any, list[str]]
    num_executed: int
    num_gathered: int


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with closing(sqlite3.connect(folder / "docs.db")) as connection:
            connection.executescript(LOOKUPS_SCHEMA)
        self._log = sqlite3.connect(folder / "log.db", isolation_level=None)
        self._log.execute("create table log (id integer)")
        self.operators = {name: OPERATORS.get(name)(folder) for name in ("llm", "sql", "python")}
        kind = ENGINES.get("null")()
        self._engine = kind.open(kind.Options(model="null"), 0, Secrets({}))
        self._identity = kind.identity(kind.Options(model="null"))
        self._runner = asyncio.Runner()
        self._store = Store(folder)
        self._runner.run(self._start())
        self._numbers = count()
        self._events: list[Event] = []

    async def _start(self) -> None:
        self._store.open_writer()
        await self._engine.start()

    def close(self) -> None:
        for operator in self.operators.values():
            self._runner.run(operator.close())
        self._store.close()
        self._runner.close()
        self._log.close()

    def bind(self, flow: Mapping[str, Any]) -> LogicalPlan:
        return bind(flow, Nowhere(), base_dir=self.folder)

    def run(self, plan: PhysicalPlan, rows: Sequence[Mapping[str, Any]]) -> Ran:
        EFFECTS.clear()
        self._log.execute("delete from log")
        ends, num_executed = self._runner.run(self._run(plan, rows))
        effects = {row: sorted(seen) for row, seen in EFFECTS.items()}
        for (row,) in self._log.execute("select id from log").fetchall():
            effects.setdefault(row, []).append("logged")
        num_gathered = sum(
            event.num_calls for event in self._events if isinstance(event, RequestFinished) and event.num_calls > 1
        )
        return Ran(tuple((end.state, end.body) for end in ends), effects, num_executed, num_gathered)

    async def _run(self, plan: PhysicalPlan, rows: Sequence[Mapping[str, Any]]) -> tuple[list[RowEnd], int]:
        self._events.clear()
        part = Part(
            plan,
            self._store,
            FCFS,
            self._events.append,
            self.operators,
            engines={"local/0": self._engine},
            identities={"local": self._identity},
            run_id=f"run-{next(self._numbers)}",
            is_fresh=True,
            repeats_unknown_effects=False,
        )
        for pool in {call.pool for call in calls_of(plan.nodes)}:
            replica = "local/0" if pool == "engine:local" else pool
            part.driver.tell(ReplicaAdded(0.0, replica, pool, 64))
        columns = plan.logical.inputs[0].columns
        if columns is not None:
            rows = [{name: row[name] for name in columns} for row in rows]
        ends = await asyncio.gather(*(part.executor.run(RowRef("", (index,)), row) for index, row in enumerate(rows)))
        return list(ends), part.figures.progress.num_executed
