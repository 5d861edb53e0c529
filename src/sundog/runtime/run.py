"""A run from its plan to its files: find it or begin it, feed the rows, write what came out.

Owns the order of these steps and the run's state. Everything it does is in the rooms that it calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.errors import AnswersAwaited, RunStopped
from sundog.host.beside import beside
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.pool_names import engine_pool
from sundog.ir.row_ids import RowRef
from sundog.ir.tables import InputRows
from sundog.measured.node_history import extend_history, read_history
from sundog.operators.base import Operator
from sundog.runtime.feed import OnRow, too_many_failures
from sundog.runtime.figures.failed_rows import failed_rows
from sundog.runtime.figures.progress import Progress
from sundog.runtime.figures.report import Report, Written, read_report
from sundog.runtime.figures.run_figures import RunFigures
from sundog.runtime.limits import RunLimits
from sundog.runtime.preflight.inspection import PlanFinding
from sundog.runtime.row_work import OpenWork, RowWork, WorkedRun
from sundog.runtime.rows.folders.output_folder import PartOwner
from sundog.runtime.rows.outputs import write_errors, write_result
from sundog.runtime.run_identity import SelectedRun
from sundog.runtime.run_options import RunOptions
from sundog.runtime.tables.course import OnNote, TableCourse, unheard
from sundog.runtime.tables.made_anew import made_with_marks, made_without_rows
from sundog.runtime.tables.table_files import TableFiles
from sundog.secrets import Secrets
from sundog.store.runs import MADE_TABLES, RunList, RunState
from sundog.store.store import Store
from sundog.store.totals import node_totals

if TYPE_CHECKING:
    from sundog.runtime.tables.candidates import ToldPairs

TICK_S = 0.5


class Run:
    """One process's part in one run. Open it with `open_run`; then `execute` once. `findings`: what was seen to be
    wrong before the first call; the report tells it again. `notes`: sentences about where its rows are worked on, told
    when they begin and again in the report. `changed_modules`: files of the flow's functions that have
    changed since `run_before` began, so that this run is new."""

    def __init__(
        self,
        plan: PhysicalPlan,
        selected: SelectedRun,
        store: Store,
        runs: RunList,
        operators: Mapping[str, Operator],
        secrets: Secrets,
        options: RunOptions,
        open_work: OpenWork,
    ) -> None:
        self.plan = plan
        self.record = selected.record
        self.is_new = selected.is_new
        self.changed_modules = selected.changed
        self.run_before = selected.before
        self.findings: tuple[PlanFinding, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.inputs = selected.inputs
        self._store = store
        self._runs = runs
        self._operators = operators
        self._secrets = secrets
        self._options = options
        self._open_work = open_work
        self._limits = RunLimits(plan, selected.record, options, store)
        self._course: TableCourse | None = None
        self._is_stopping = False
        self._figures = RunFigures({engine_pool(block.name): block.options["model"] for block in plan.logical.engines})
        self._restore_progress()

    @property
    def progress(self) -> Progress:
        """The point that the run has come to, now."""
        return self._figures.progress

    @property
    def folder(self) -> Path:
        """The folder in which it keeps what is no call and no row."""
        return self._runs.folder(self.record.run_id)

    @property
    def is_finished(self) -> bool:
        """Return whether every row had ended before this process began."""
        return self.record.state == "finished" and not self._options.retry_failed

    def discard(self) -> None:
        """Forget a run that this process has begun and in which nothing was called; an older one stays."""
        if self.is_new:
            self._runs.forget(self.record.run_id)

    def stop(self) -> None:
        """Start nothing more and let `execute` raise RunStopped once what is running has been committed."""
        self._is_stopping = True
        if self._course is not None:
            self._course.stop()

    async def execute(self, on_row: OnRow | None = None, on_note: OnNote = unheard) -> Report:
        """Run what has not ended, write the files, give the report. `on_row` hears of each row once it is committed,
        `on_note` of what calls are about to be made for. RunStopped after an interruption or too many failures; the
        same command continues."""
        if self.is_finished:
            return self._write_files(0.0)
        for note in self.notes:
            on_note(note)
        begin_s = time.monotonic()
        state: RunState = "unfinished"
        self._runs.go_on(self.record.run_id)
        try:
            await self._run_rows(on_row, on_note)
            state = "finished"
            self._observe_tables()
            return await asyncio.to_thread(self._write_files, time.monotonic() - begin_s)
        except RunStopped as stopped:
            state = "waits" if isinstance(stopped, AnswersAwaited) else state
            self._write_errors()
            raise
        finally:
            self._runs.end(self.record.run_id, state, self.record.busy_s + time.monotonic() - begin_s)
            for pattern in ("*", MADE_TABLES):
                self._runs.keep_files(self.record.run_id, pattern)
            extend_history(self._options.state_dir, self.plan.logical.name, self._figures.observations.records)

    def keep_file(self, name: str) -> None:
        """Make a file of the run's folder as safe as its rows are."""
        self._runs.keep_files(self.record.run_id, name)

    def rows(self, tables: Sequence[str] | None = None) -> Iterator[tuple[RowRef, dict[str, Any]]]:
        """Yield the output rows there are of some tables, of the results where none is named: table by table, each in
        its order."""
        for table in self.plan.logical.results if tables is None else tables:
            for row_id, body in self._store.rows(self.record.run_id, table, "done"):
                yield RowRef(table, row_id), self._store.decoded(body)

    def row_counts(self) -> dict[str, dict[str, int]]:
        """Return how many rows have ended, by table and state."""
        found: dict[str, dict[str, int]] = {table.name: {} for table in self.plan.tables}
        for (table, state), number in self._store.count_rows(self.record.run_id).items():
            found.setdefault(table, {})[state] = number
        return found

    def failures(self) -> Iterator[dict[str, Any]]:
        """Yield {row, node, cause, attempts} of each failed row, table by table, each in its order; with its `table`
        where the flow has several."""
        return failed_rows(self._store, self.record.run_id, [table.name for table in self.plan.tables])

    def _write_files(self, busy_s: float) -> Report:
        run_id, outputs = self.record.run_id, self._options.outputs
        told = tuple(self._told_pairs())
        warnings = (*map(str, self.findings), *self._notes(), *(text for one in told for text in one.warnings))
        for name, output in outputs.items():
            columns = [column for column, _ in self.plan.logical.table(name).outputs]
            rows = partial(self._store.rows, run_id, name, "done")
            warnings += write_result(output, PartOwner(run_id, name), columns, rows)
        errors = self._write_errors()
        notes = (*self.notes, *(one.note for one in told), *self._limits.notes())
        written = Written(tuple(map(str, outputs.values())), errors, warnings, notes)
        return read_report(self._store, run_id, self.plan, written, self._figures, busy_s=self.record.busy_s + busy_s)

    def _notes(self) -> Iterator[str]:
        """Yield what changed in the values that queries of tables gave, and what cascades cost."""
        if any(not isinstance(table.source, InputRows) for table in self.plan.logical.tables):
            from sundog.runtime.figures.agreements import agreement_notes  # of tables alone
            from sundog.runtime.tables.made import notes_on_made  # what reads queries, which few flows have

            folder = self.folder / "tables"
            yield from notes_on_made([table.name for table in self.plan.tables], folder)
            yield from () if self._course is None else self._course.notes
            yield from agreement_notes(self.plan.written, self._store, self.record.run_id)

    def _told_pairs(self) -> Iterator[ToldPairs]:
        tables = [table.name for table in self.plan.tables if table.table.candidates is not None]
        if tables:
            from sundog.runtime.tables.candidates import kept_told  # what reads queries, which few flows have

            found = (kept_told(name, self.folder / "tables") for name in tables)
            yield from (one for one in found if one is not None)

    def _write_errors(self) -> Path | str | None:
        """Write the errors file beside the first output: it is there when rows failed, gone when none did."""
        first = next(iter(self._options.outputs.values()), None)
        return None if first is None else write_errors(first, self.failures())

    async def _run_rows(self, on_row: OnRow | None, on_note: OnNote) -> None:
        if self._options.retry_failed:
            self._forget_failed_rows()
        self._refuse_too_many_failures()
        self._limits.check()
        async with self._writing(), self._open_work(self._worked(), on_row) as work:
            course = self._course = self._course_of(work)
            if self._is_stopping:
                course.stop()
            begin_s = asyncio.get_running_loop().time()
            with self._limits.holding(course.stop, self.progress):
                await course.run(on_note)
            self._figures.rows_s = asyncio.get_running_loop().time() - begin_s

    def _worked(self) -> WorkedRun:
        return WorkedRun(
            self.plan,
            self.record,
            self._store,
            self._operators,
            self._secrets,
            self._options,
            self.folder,
            self._figures,
            self._limits,
            read_history(self._options.state_dir, self.plan.logical.name),
        )

    def _course_of(self, work: RowWork) -> TableCourse:
        run_id, files = self.record.run_id, TableFiles(self.folder, self._options.num_buckets)
        return TableCourse(self.plan, self.inputs, work.feeds, self._store, run_id, files, self.progress, work.begin)

    def _forget_failed_rows(self) -> None:
        """Let failed rows be tried again, and let tables be made anew that were made without them."""
        made_without = made_without_rows(self.plan, self._store, self.record.run_id)
        with_marks = made_with_marks(self.plan, self._store, self.record.run_id)
        folder = self.folder / "tables"
        for name in made_without:
            self._store.forget_rows(self.record.run_id, name)
        for name in {*made_without, *with_marks}:
            for path in folder.glob(f"{name}.*"):
                path.unlink()
        TableFiles(self.folder).drop_buckets()
        self._runs.keep_files(self.record.run_id, MADE_TABLES)
        self._store.forget_failed_rows(self.record.run_id)
        self._restore_progress()

    def _observe_tables(self) -> None:
        """Learn how many rows each table has that is made of others, and how many of its calls are equal."""
        counts = self._store.count_rows(self.record.run_id)
        totals = node_totals(self._store, self.record.run_id)
        for table in self.plan.tables:
            num_read = sum(counts.get((name, "done"), 0) for name in table.table.reads)
            if not num_read:
                continue
            num_rows = sum(number for (name, _), number in counts.items() if name == table.name)
            self._figures.observations.made(table.name, num_read, num_rows)
            for call in calls_of(table.nodes):
                node = totals.get(call.name)
                if node is not None and node.num_executed and call.name not in self._figures.num_reused:
                    self._figures.observations.shared(call.name, node.num_asked, node.num_executed)

    def _restore_progress(self) -> None:
        counts = self._store.count_states(self.record.run_id)
        progress = self.progress
        is_known = all(isinstance(table.source, InputRows) for table in self.plan.logical.tables)
        progress.num_rows = self.record.num_rows if is_known else None
        progress.num_done, progress.num_failed = counts["done"], counts["failed"]
        progress.num_dropped, progress.num_not_run = counts["dropped"], counts["not_run"]
        progress.num_restored = progress.num_ended
        if not self.is_new and not self.is_finished:
            totals = node_totals(self._store, self.record.run_id).values()
            progress.num_restored_executed = sum(node.num_executed for node in totals)

    def _refuse_too_many_failures(self) -> None:
        limit, num_failed = self._options.max_errors, self.progress.num_failed
        if limit is not None and num_failed > limit:
            raise too_many_failures(num_failed, limit, self.record.run_id)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Let the store take writes, and keep how long the run takes at every tick."""
        begin_s = time.monotonic()

        async def tick() -> None:
            while True:
                await asyncio.sleep(TICK_S)
                self.progress.elapsed_s = time.monotonic() - begin_s
                await self._store.put_busy(self.record.run_id, self.record.busy_s + self.progress.elapsed_s)

        self._store.open_writer()
        try:
            async with beside(tick()):
                yield
        finally:
            self._store.close_writer()
