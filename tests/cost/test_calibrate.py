"""Calibration against engines whose step time is known, in virtual time; and against real ones."""

from __future__ import annotations

import asyncio
import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from sundog.cost.chunk_times import StreamTimes, read_steps
from sundog.cost.profile import Profile, StepLimits
from sundog.cost.step_time import FitError, StepTime, fit, fit_error_of
from sundog.engines.base import Engine
from sundog.engines.modelled.null import NullKind, NullOptions
from sundog.errors import EngineUnavailable, RunError
from sundog.host.virtual_loop import run_virtually
from sundog.ir.logical import EngineBlock
from sundog.measured.calibrate import calibrate_engine, profile_of
from sundog.measured.calibrate_rounds import MeasuredRounds, measure
from sundog.measured.profiles import load_profile, profile_path, save_profile
from sundog.secrets import Secrets
from sundog.servers.run_servers import RunServers
from sundog.servers.servers import Servers
from sundog.tokens import TokenPrices
from tests.cli.flows import sundog
from tests.engines.test_openvino import why_not

PRICE = TokenPrices(input_usd_per_mtok=1, output_usd_per_mtok=2)
SECONDS = (20e-3, 1e-3, 1.5e-3, 2.6e-6, 0.9e-6)


def null_engine(**options: Any) -> Engine:
    return NullKind().open(NullOptions(output_tokens=500, **options), 0, Secrets({}))


async def measured(engine: Engine, max_concurrency: int = 64, budget_s: float = 40.0) -> MeasuredRounds:
    await engine.start()
    try:
        return await measure(engine, max_concurrency, budget_s=budget_s)
    finally:
        await engine.close()


@pytest.mark.parametrize(("max_step_tokens", "max_kv_tokens"), [(100, None), (256, 65_536), (4096, None)])
def test_chunk_times_tell_the_steps_exactly(max_step_tokens: int, max_kv_tokens: int | None) -> None:
    """Nothing is shared without a prefix cache; with one, shared context takes the null engine as long as other."""
    engine = null_engine(step_time=SECONDS, max_step_tokens=max_step_tokens, max_kv_tokens=max_kv_tokens)
    found = run_virtually(measured(engine))
    model = fit(found.fit)
    shared_s = 0.0 if max_kv_tokens is None else SECONDS[3]
    assert astuple(model) == pytest.approx((*SECONDS, shared_s), rel=1e-5)
    assert fit_error_of(model, found.held_out).mape < 1e-6
    assert (found.limits.max_step_tokens, found.limits.max_decode_requests) == (max_step_tokens, 64)


def test_enough_mixed_steps_are_held_out() -> None:
    found = run_virtually(measured(null_engine(step_time=SECONDS)))
    num_mixed = sum(step.work.is_mixed for step in found.fit)
    assert all(step.work.is_mixed for step in found.held_out)
    assert len(found.held_out) / (len(found.held_out) + num_mixed) >= 0.1
    shapes = {(step.work.num_prefill_tokens, step.work.num_decode_tokens) for step in found.fit}
    assert not shapes & {(step.work.num_prefill_tokens, step.work.num_decode_tokens) for step in found.held_out}


def test_rounds_are_repeated_while_they_fit() -> None:
    once, often = (run_virtually(measured(null_engine(step_time=SECONDS), budget_s=budget_s)) for budget_s in (60, 200))
    assert len(often.fit) % len(once.fit) == 0
    assert len(often.fit) > len(once.fit)


def test_few_at_once_give_small_rounds_only() -> None:
    found = run_virtually(measured(null_engine(step_time=SECONDS), max_concurrency=6))
    assert max(step.work.num_decode_tokens for step in found.fit) == 5
    assert found.limits.max_decode_requests == 6
    assert found.held_out


def test_an_engine_that_does_not_stream_is_refused() -> None:
    with pytest.raises(RunError, match="cannot be seen from the outside"):
        run_virtually(measured(null_engine(latency_s=0.1)))


def test_a_failure_of_the_engine_ends_the_measuring() -> None:
    async def close_early() -> None:
        engine = null_engine(step_time=SECONDS)
        await engine.start()
        measuring = asyncio.create_task(measure(engine, 8, budget_s=40))
        await asyncio.sleep(2.0)
        await engine.close()
        await measuring

    with pytest.raises(EngineUnavailable):
        run_virtually(close_early())


def block(**options: Any) -> EngineBlock:
    return EngineBlock("local", "null", NullOptions(**options).model_dump())


def test_profiles_are_kept_by_engine_and_machine(tmp_path: Path) -> None:
    found = run_virtually(measured(null_engine(step_time=SECONDS)))
    profile = profile_of(found, load_1min=0.25)
    assert load_profile(tmp_path, block()) is None
    path = save_profile(tmp_path, block(), profile)
    assert load_profile(tmp_path, block()) == profile
    assert path.parent == tmp_path / "profiles"
    assert list(path.parent.iterdir()) == [path]
    assert path == profile_path(tmp_path, block(replicas=3, max_concurrency=5, price=PRICE))
    assert path != profile_path(tmp_path, block(model="other"))
    assert path != profile_path(tmp_path, block(max_step_tokens=9))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"step_time": {"step_s": 1}}', b"[1]"])
def test_a_damaged_profile_is_named(tmp_path: Path, content: bytes) -> None:
    path = profile_path(tmp_path, block())
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RunError, match="cannot be read") as failure:
        load_profile(tmp_path, block())
    assert failure.value.where == str(path)


FLOW = """
name: one
engines:
  first: {kind: "null", step_time: [1e-5, 1e-7, 1e-6, 1e-9, 1e-10], output_tokens: 500}
  second: {kind: "null"}
nodes: {}
inputs: {rows: {query: "select 1 as id"}}
outputs: {id: "{{ row.id }}"}
"""


@pytest.fixture
def flow_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUNDOG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "flow.yaml").write_text(FLOW)
    return tmp_path


def test_the_command_saves_what_it_prints(flow_folder: Path) -> None:
    """The steps are too short for their times to mean anything here."""
    ran = sundog(flow_folder, "calibrate", "flow.yaml", "--engine", "first", "--seconds", "1", "--keep", "--json")
    assert ran.exit_code == 0, ran.stderr
    printed = json.loads(ran.stdout)
    saved = json.loads(Path(printed.pop("profile")).read_bytes())
    assert (saved.pop("kind"), saved.pop("model")) == ("null", "null")
    assert saved == printed
    assert printed["measured_on"]["num_cores"] >= 1
    assert printed["held_out"]["num_steps"] > 0
    ran = sundog(flow_folder, "calibrate", "flow.yaml", "--engine", "first", "--seconds", "1", "--keep")
    assert ran.exit_code == 0, ran.stderr
    assert "decode tokens/s at best, 32 at once" in ran.stdout


def test_a_profile_that_fits_badly_is_told_and_not_kept(flow_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def measured(*given: object, **options: object) -> Profile:
        bad = FitError(30, 0.53, 0.4, 0.9)
        return Profile(StepTime(0.01, 1e-3, 1e-3, 0.0, 0.0, 0.0), StepLimits(256, 8), bad, bad, {})

    monkeypatch.setattr("sundog.measured.calibrate.calibrate_engine", measured)
    command = ("calibrate", "flow.yaml", "--engine", "first")
    ran = sundog(flow_folder, *command)
    assert ran.exit_code == 1
    assert "the profile is not kept: 53.0% mean" in ran.stderr
    assert not (flow_folder / "cache").exists()
    assert sundog(flow_folder, *command, "--keep").exit_code == 0
    assert (flow_folder / "cache").exists()


def test_the_engine_must_be_named_among_several(flow_folder: Path) -> None:
    ran = sundog(flow_folder, "calibrate", "flow.yaml")
    assert (ran.exit_code, ran.stderr) == (2, "error: the flow has 2 engines\n  --engine: known here: first, second\n")
    ran = sundog(flow_folder, "calibrate", "flow.yaml", "--engine", "frist")
    assert (ran.exit_code, ran.stderr) == (2, "error: the flow has no engine 'frist'\n  did you mean 'first'?\n")
    ran = sundog(flow_folder, "calibrate", "flow.yaml", "--engine", "second", "--seconds", "1", "--keep")
    assert ran.exit_code == 1
    assert "the steps of this engine cannot be seen" in ran.stderr
    assert not (flow_folder / "cache").exists()


def test_chunks_that_were_kept_on_their_way_are_seen_as_one() -> None:
    """Ten steps of 20 ms; those that ended at 60 and 80 ms were reported with the one at 100 ms."""
    times = [0.02 * step if step not in (3, 4) else 0.0999 for step in range(11)]
    stream = StreamTimes(-0.1, tuple(times), 50, 0, 11, is_background=True)
    steps = read_steps([stream], None)
    assert sum(step.elapsed_s for step in steps) == pytest.approx(0.2)
    assert sum(step.work.num_steps for step in steps) == 10
    assert [step.work.num_steps for step in steps] == [1, 1, 3, 1, 1, 1, 1, 1]
    assert fit_error_of(StepTime(20e-3, 0, 0, 0, 0, 0), steps).mape < 0.01


@pytest.mark.local
def test_the_embedded_engine_can_be_calibrated(tmp_path: Path) -> None:
    """Its steps are seen and fitted; how well is benchmarks/calibration.py's question."""
    if reason := why_not():
        pytest.skip(reason)
    local = EngineBlock("local", "openvino", {"model": "smollm2-135m", "max_concurrency": 5})
    servers = RunServers(Servers(tmp_path, Secrets({})))
    profile = asyncio.run(calibrate_engine(local, Secrets({}), servers, budget_s=8, on_round=lambda done, total: None))
    assert profile.limits.max_step_tokens == 256
    assert profile.step_time.prefill_token_s > 0
    assert profile.fitted.num_steps >= 20
