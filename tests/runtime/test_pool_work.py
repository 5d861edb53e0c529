"""The work of a process, pool by pool, and the least time it can take."""

from __future__ import annotations

from pathlib import Path

import pytest

from sundog.cost.profile import Profile, StepLimits, least_seconds
from sundog.cost.step_time import FitError, StepTime, call_work
from sundog.engines.base import Usage
from sundog.engines.embedded.prefix_mirror import PrefixMirror
from sundog.host.attempt import Attempt
from sundog.ir.logical import EngineBlock
from sundog.measured.profiles import save_profile
from sundog.runtime.figures.engine_report import engine_reports
from sundog.runtime.figures.pool_work import PoolWork

BLOCK = EngineBlock("local", "null", {"model": "null"})
NO_ERROR = FitError(1, 0.0, 0.0, 0.0)
PROFILE = Profile(StepTime(10e-3, 1e-3, 1e-3, 5e-6, 1e-7, 1e-6), StepLimits(256, 16), NO_ERROR, NO_ERROR, {})


def done(*usages: Usage) -> dict[str, PoolWork]:
    """The work of a pool that answers a call in each second, from the second one on; one attempt more failed before."""
    work = PoolWork()
    work.heard(Attempt("engine:local", "0", "f", "ask", 0.5, 0.75, 0.25, "failed", None, 1, 0))
    for number, usage in enumerate(usages):
        work.heard(Attempt("engine:local", "0", "f", "ask", 1.0 + number, 2.0 + number, 1.0, "succeeded", usage, 1, 1))
    return {"engine:local": work}


def test_work_is_that_of_the_calls() -> None:
    pool = done(Usage(300, 20, 96, 128), Usage(50, 1, 0, 0))["engine:local"]
    assert pool.work == call_work(300, 128, 20, is_shared=True) + call_work(50, 0, 1)
    assert (pool.wall_s, pool.num_calls, pool.is_distinct) == (2.5, 2, True)


def test_without_blocks_the_computed_tokens_count() -> None:
    pool = done(Usage(300, 20, 96), Usage(300, 20))["engine:local"]
    assert pool.work == call_work(300, 96, 20, is_shared=True) + call_work(300, 0, 20)
    assert not pool.is_distinct


def test_an_engine_is_measured_by_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUNDOG_CACHE", str(tmp_path))
    work = done(Usage(300, 20, 0, 0))
    (unknown,) = engine_reports([BLOCK, EngineBlock("idle", "null", {"model": "null"})], work)
    assert (unknown.bound_s, unknown.achieved) == (None, None)
    assert str(unknown).endswith("for the work bound: sundog calibrate FLOW --engine local")
    save_profile(tmp_path, BLOCK, PROFILE)
    (known,) = engine_reports([BLOCK], work)
    bound_s = least_seconds(call_work(300, 0, 20), PROFILE)
    assert (known.bound_s, known.achieved) == pytest.approx((bound_s, bound_s / 1.5))
    assert "of distinct prompt tokens" in str(known)
    two = EngineBlock("local", "null", {"model": "null", "replicas": 2})
    (halved,) = engine_reports([two], work)
    assert halved.bound_s == pytest.approx(bound_s / 2)


def test_a_cache_without_end_has_seen_every_prompt() -> None:
    mirror = PrefixMirror(4, num_blocks=1)
    assert mirror.see(range(10)) == 0
    assert mirror.see(range(10)) == 8
    assert mirror.see(range(8)) == 7, "the last token is always computed"
    mirror.add([*range(8), 50, 51, 52, 53])
    assert mirror.see([*range(8), 50, 51, 52, 53, 60]) == 12, "answers count too"
    assert mirror.num_cached_tokens([*range(8), 50, 51, 52, 53, 60]) == 0, "though the cache itself is too small"
