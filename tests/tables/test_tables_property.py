"""Rewritten tables give the rows of the naive plan, whatever the flow and the rows are."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sundog.api import Runnable
from sundog.config import read_config
from sundog.errors import SundogError
from sundog.flow.agents.server_lists import ServerLists
from sundog.flow.bind import bind
from sundog.ir.graph import table_order
from sundog.ir.logical import Filter, LogicalPlan
from sundog.ir.tables import QueryRows
from sundog.optimizer.rewrite import rewrite
from sundog.optimizer.rules.base import Context, Rule, RuleResult
from sundog.optimizer.rules.catalog import RULE_NAMES
from sundog.session import planned_flow
from sundog.session.session import plan_session
from tests.optimizer.bench import Nowhere
from tests.tables.generated import EFFECTS, SOURCES, Flow, flows, rows

SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True)
#: In memory where there is such a folder: half of a small run is waiting for the disk, and a run is not killed here.
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None
Rows = Sequence[Mapping[str, Any]]
ONE_ROW: Rows = [{"id": 0, "a": 1, "b": "x"}]


class _Bound(Runnable):
    def __init__(self, plan: LogicalPlan, base_dir: Path) -> None:
        self._plan = plan
        self.base_dir = base_dir

    def planned_with(self, lists: ServerLists) -> LogicalPlan:
        return self._plan


@dataclass(frozen=True, slots=True)
class Ran:
    """The outcome of a run; `error` where the run ended before its tables had."""

    #: The rows of each result, in their order.
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    #: The tables with rows that failed.
    failed: frozenset[str]
    effects: Mapping[str, Sequence[str]]
    num_executed: int
    error: str = ""


class Bench:
    """Runs one flow over the same rows, each time with a store of its own."""

    def __init__(self, folder: Path, flow: Flow, given_rows: Rows, other_rows: Rows) -> None:
        self._folder = folder
        for name, found in (("rows", given_rows), ("others", other_rows)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
        self.plan = bind(flow, Nowhere(), base_dir=folder)

    def run(self, **options: Any) -> Ran:
        EFFECTS.clear()
        state = self._folder / "state"
        shutil.rmtree(state, ignore_errors=True)
        try:
            result = _Bound(self.plan, self._folder).run(state=state, progress=False, **options)
        except SundogError as error:
            return Ran({}, frozenset(), {}, 0, str(error))
        found = {name: list(result.table(name)) for name in result.tables}
        failed = frozenset(row["table"] for row in result.errors)
        effects = {step: sorted(texts) for step, texts in EFFECTS.items()}
        return Ran(found, failed, effects, result.report.num_executed)


def tainted(plan: LogicalPlan, failed: frozenset[str]) -> frozenset[str]:
    """Return the tables that lack what is made of failed rows: where work is not done that failed, they have more."""
    found: set[str] = set()
    for table in table_order(plan.tables):
        if any(name in failed or name in found for name in table.reads):
            found.add(table.name)
    return frozenset(found)


def is_part(some: Sequence[Any], of: Sequence[Any]) -> bool:
    """Return whether `of` has the elements of `some`, in that order."""
    left = iter(of)
    return all(any(one == other for other in left) for one in some)


def check_same(plan: LogicalPlan, naive: Ran, other: Ran) -> None:
    """A row that the naive plan fails may end otherwise: work that is not done cannot fail."""
    if naive.error:
        return
    assert not other.error
    assert other.failed <= naive.failed | tainted(plan, naive.failed)
    assert other.num_executed <= naive.num_executed or naive.failed
    unknown = tainted(plan, naive.failed)
    for name, found in naive.rows.items():
        if name in unknown:
            continue
        assert is_part(found, other.rows[name])
        assert name in naive.failed or len(found) == len(other.rows[name])
    for table in plan.tables:
        if table.name not in unknown:
            for node in table.nodes:
                old, new = naive.effects.get(node.name, []), other.effects.get(node.name, [])
                assert is_part(old, new)
                assert table.name in naive.failed or len(old) == len(new)


def check_flow(flow: Flow, given_rows: Rows, other_rows: Rows, rule: str | None) -> Ran:
    """All rules together, or the one called `rule` alone."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as path:
        bench = Bench(Path(path), flow, given_rows, other_rows)
        naive = bench.run(naive=True)
        without = [] if rule is None else [name for name in RULE_NAMES if name != rule]
        check_same(bench.plan, naive, bench.run(without_rules=without))
        return naive


CASES = {"flow": flows(), "given_rows": rows, "other_rows": rows, "rule": st.sampled_from([None, *RULE_NAMES])}


@pytest.mark.parametrize("part", range(4))
def test_rewritten_tables_give_the_rows_of_the_naive_plan(part: int) -> None:
    @seed(part)
    @settings(SETTINGS, max_examples=15, derandomize=False, database=None)
    @given(**CASES)
    def check(flow: Flow, given_rows: Rows, other_rows: Rows, rule: str | None) -> None:
        check_flow(flow, given_rows, other_rows, rule)

    check()


def test_half_of_the_flows_have_rows_that_flow(tmp_path: Path) -> None:
    """The naive plan has every query wait. Where none flows in the other plan either, the comparison says less."""
    num_streaming: list[int] = []
    kinds: set[str] = set()

    @settings(SETTINGS, max_examples=100, phases=[Phase.generate])
    @given(flow=flows())
    def count(flow: Flow) -> None:
        plan = Bench(tmp_path, flow, ONE_ROW, ONE_ROW).plan
        session = plan_session(plan, tmp_path, read_config(tmp_path / "state"))
        session.rows.close()
        num_streaming.append(sum(table.stream_of is not None for table in session.plan.tables))
        kinds.update(key for table in flow["tables"].values() for key in table)
        kinds.update(next(iter(node)) for table in flow["tables"].values() for node in table.get("nodes", {}).values())

    count()
    assert sum(number > 0 for number in num_streaming) >= len(num_streaming) / 2
    assert kinds >= {"loop", "agent", "failed_rows"}
    assert len(kinds & SOURCES.keys()) >= 3


class ForgetFilters:
    """A broken rule: a filter with nothing below it is gone."""

    name = "forget_filters"

    def apply(self, context: Context) -> RuleResult | None:
        plan = context.plan
        for table in plan.tables:
            if table.nodes and isinstance(table.nodes[-1], Filter):
                return RuleResult(plan.with_table(replace(table, nodes=table.nodes[:-1])), ("forgot it",))
        return None


class ForgetDistinct:
    """A broken rule: a query gives every row."""

    name = "forget_distinct"

    def apply(self, context: Context) -> RuleResult | None:
        plan = context.plan
        for table in plan.tables:
            if isinstance(table.source, QueryRows) and " distinct " in table.source.sql:
                source = replace(table.source, sql=table.source.sql.replace(" distinct ", " "))
                return RuleResult(plan.with_table(replace(table, source=source)), ("forgot it",))
        return None


@pytest.mark.parametrize(
    ("broken", "word"), [(ForgetFilters(), ""), (ForgetDistinct(), " distinct ")], ids=["filters", "distinct"]
)
def test_a_broken_rule_is_found(broken: Rule, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This keeps the comparison above from coming to compare nothing. `word`: of the flows that the rule changes."""
    monkeypatch.setattr(planned_flow, "rewrite", lambda plan, operators, *, without, selectivity: (
        rewrite(plan, operators, rules=[] if without else [broken])
    ))  # fmt: skip

    @settings(SETTINGS, max_examples=200, phases=[Phase.generate])
    @given(flow=flows().filter(lambda flow: word in str(flow)), given_rows=rows, other_rows=rows)
    def check(flow: Flow, given_rows: Rows, other_rows: Rows) -> None:
        check_flow(flow, given_rows, other_rows, None)

    with pytest.raises(AssertionError):
        check()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_rewritten_tables_give_the_rows_of_the_naive_plan_in_many_cases(part: int) -> None:
    @seed(100 + part)
    @settings(SETTINGS, max_examples=250, derandomize=False, database=None)
    @given(**CASES)
    def check(flow: Flow, given_rows: Rows, other_rows: Rows, rule: str | None) -> None:
        check_flow(flow, given_rows, other_rows, rule)

    check()
