from __future__ import annotations

import random
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sundog.cost.estimate import Estimate
from sundog.cost.history import Histogram, NodeRecord, mean_of, output_tokens, selectivity, summary
from sundog.errors import StoreError
from sundog.measured.node_history import extend_history, history_path, read_history
from tests.cli.flows import report_of, sundog, write_review


def histogram(values: list[float]) -> Histogram:
    found = Histogram()
    for value in values:
        found.add(value)
    return found


def test_a_histogram_tells_mean_spread_and_quantiles() -> None:
    rng = random.Random(0)
    values = [rng.lognormvariate(4, 0.7) for _ in range(2000)] + [0.0]
    found = histogram(values)
    told = summary(found)
    assert told is not None
    assert told.count == 2001
    assert told.mean == pytest.approx(statistics.fmean(values))
    assert found.spread == pytest.approx(statistics.stdev(values))
    cuts = statistics.quantiles(values, n=10)
    assert told.p50 == pytest.approx(cuts[4], rel=0.03)
    assert told.p90 == pytest.approx(cuts[8], rel=0.03)
    assert found.quantile(0.0) == 0.0
    assert len(found.counts) < 120
    assert summary(Histogram()) is None


def test_the_mean_to_come_is_in_the_range() -> None:
    num_held = 0
    for seed in range(300):
        rng = random.Random(seed)
        past = histogram([rng.lognormvariate(4, 0.5) for _ in range(40)])
        to_come = [rng.lognormvariate(4, 0.5) for _ in range(100)]
        estimate = mean_of(past, len(to_come))
        assert estimate is not None
        num_held += statistics.fmean(to_come) in estimate
    assert num_held / 300 >= 0.85


def test_without_history_the_range_is_all_there_can_be() -> None:
    assert output_tokens(None, 10, max_tokens=64) == Estimate(1, 32.5, 64)
    assert output_tokens(NodeRecord(), 10, max_tokens=64) == Estimate(1, 32.5, 64)
    assert selectivity(None) == Estimate(0, 0.5, 1)


def test_answers_are_never_longer_than_allowed() -> None:
    record = NodeRecord(output_tokens=histogram([90.0, 100.0, 95.0, 120.0, 80.0, 99.0]))
    assert output_tokens(record, 10, max_tokens=50) == Estimate.exactly(50)


def test_runs_add_up(tmp_path: Path) -> None:
    assert read_history(tmp_path, "review") == {}
    assert list(tmp_path.iterdir()) == []
    rng = random.Random(1)
    all_tokens: list[float] = []
    for _ in range(3):
        tokens = [float(rng.randrange(0, 60)) for _ in range(50)]
        all_tokens += tokens
        record = NodeRecord(histogram(tokens), histogram([0.25]), num_held=2, num_judged=5)
        extend_history(tmp_path, "review", {("facts", "smol"): record, ("keep", ""): NodeRecord(num_judged=1)})
        extend_history(tmp_path, "other", {("facts", "smol"): record})
    found = read_history(tmp_path, "review")
    assert found[("facts", "smol")].output_tokens == histogram(all_tokens)
    assert found[("facts", "smol")].call_s == histogram([0.25] * 3)
    assert found[("keep", "")] == NodeRecord(num_judged=3)
    assert (found[("facts", "smol")].num_held, found[("facts", "smol")].num_judged) == (6, 15)


def test_runs_that_end_together_both_count(tmp_path: Path) -> None:
    def extend(folder: Path) -> None:
        extend_history(folder, "f", {("a", "m"): NodeRecord(histogram([7.0]))})

    with ThreadPoolExecutor(8) as pool:
        for number in range(6):
            folder = tmp_path / str(number)
            folder.mkdir()
            list(pool.map(extend, [folder] * 24))
            assert read_history(folder, "f")[("a", "m")].output_tokens.count == 24


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    history_path(tmp_path).write_bytes(b"no database at all, but long enough to be read as one" * 40)
    with pytest.raises(StoreError) as failure:
        read_history(tmp_path, "f")
    assert failure.value.where == str(history_path(tmp_path))


def test_every_run_extends_the_history(tmp_path: Path) -> None:
    write_review(tmp_path)
    for _ in range(2):
        report = report_of(sundog(tmp_path, "run", "flow.yaml", "--fresh", "--json"))
    executed = {node["node"]: node for node in report["nodes"]}
    found = read_history(tmp_path / ".sundog", "review")
    assert set(found) == {("facts", "null"), ("answer", "null"), ("audit", "null"), ("audit", "")}
    for (node, model), record in found.items():
        if model:
            assert record.call_s.count == record.output_tokens.count == 2 * executed[node]["num_executed"]
            assert record.output_tokens.total == 2 * executed[node]["num_output_tokens"]
    audit = found["audit", ""]
    assert audit.num_judged == 24
    assert audit.num_held == 2 * executed["audit"]["num_asked"]
