"""Profiles by name; the shipped ones against the figures they were fitted to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sundog.cost.batch_times import undetermined
from sundog.cost.pools import EnginePool
from sundog.cost.prompt_sample import MeasuredPrompt
from sundog.errors import ConfigError
from sundog.measured.measurement_file import Measurements, read_content, read_measurements
from sundog.measured.named_profiles import (
    named_profile,
    own_names,
    require_room,
    save_named_profile,
    shipped_names,
    shipped_profile,
    with_profile,
)
from tests.cli.flows import sundog

PUBLISHED = Path(__file__).parents[2] / "src" / "sundog" / "measured" / "published"
POOL = EnginePool(
    "engine:local",
    "local",
    "m",
    lambda texts, *, scale, block_scale: MeasuredPrompt(1, None),
    0.0,
    None,
    2,
    32,
    900,
    None,
    None,
    max_kv_tokens=900,
)


def measurements(name: str) -> Measurements:
    return read_measurements(read_content(PUBLISHED / f"{name}.yaml"), name)


def test_the_shipped_profiles() -> None:
    assert shipped_names() == ("llama-2-70b-8xh100", "llama-3-8b-a100", "llama-3-8b-h100")


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_profile_names_its_source(name: str) -> None:
    given = measurements(name)
    assert given.source.url.startswith("https://")
    assert len(given.source.commit) == 40
    assert all(table.source for table in given.measurements)
    assert all(table.why for table in given.left_out)
    assert given.power is None or given.power.source
    assert given.compute is None or given.compute.source
    profile = shipped_profile(name)
    for coefficient in given.assumed_zero:
        assert getattr(profile.step_time, coefficient) == 0
    steps = [
        step for table in given.measurements for one in table.batches() for step in one.steps(given.max_step_tokens)
    ]
    assert not undetermined(steps, given.assumed_zero)


@pytest.mark.parametrize(
    ("name", "fitted", "held_out"),
    [("llama-3-8b-h100", 0.012, 0.059), ("llama-3-8b-a100", 0.011, 0.062), ("llama-2-70b-8xh100", 0.094, 0.129)],
)
def test_how_well_the_shipped_profiles_fit(name: str, fitted: float, held_out: float) -> None:
    """docs/cost.md tells these errors."""
    profile = shipped_profile(name)
    assert profile.fitted.mape == pytest.approx(fitted, abs=5e-4)
    assert profile.held_out.mape == pytest.approx(held_out, abs=5e-4)


def test_a_shipped_profile_foretells_a_published_batch() -> None:
    """64 requests of 1,024 and 1,024 tokens on the H100 took 19.3 s, by hand from the coefficients."""
    model = shipped_profile("llama-3-8b-h100").step_time
    steps = 64 * 1024 / 8192 + 1023
    context = 64 * (1023 * 1024 + 1023 * 1024 / 2)
    seconds = (
        model.step_s * steps
        + model.prefill_token_s * 65536
        + model.decode_token_s * 64 * 1023
        + model.context_token_s * context
    )
    assert seconds == pytest.approx(19.312, rel=0.04)


def test_names_are_looked_for_in_order(tmp_path: Path) -> None:
    shipped = shipped_profile("llama-3-8b-h100")
    mine = replace(shipped, max_kv_tokens=77)
    path = save_named_profile(tmp_path, "mine-1.0", mine)
    assert named_profile("llama-3-8b-h100", tmp_path) is shipped
    assert named_profile("mine-1.0", tmp_path) == mine
    assert named_profile(str(path), tmp_path / "elsewhere") == mine
    assert named_profile(str(PUBLISHED / "llama-3-8b-h100.yaml"), tmp_path) == shipped
    assert own_names(tmp_path) == ("mine-1.0",)


def test_an_unknown_name_is_answered_with_the_closest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'llama-3-8b-h100'"):
        named_profile("lama-3-8b-h100", tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        named_profile("nowhere.json", tmp_path)


@pytest.mark.parametrize(("name", "what"), [("A b", "no name"), ("../x", "no name"), ("llama-3-8b-h100", "shipped")])
def test_a_name_must_be_one_of_its_own(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        save_named_profile(tmp_path, name, shipped_profile("llama-3-8b-h100"))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("step_time", {"step_s": -1}),
        ("step_time", {"step_s": float("nan")}),
        ("step_time", {"step_s": "x"}),
        ("step_time", {"stepp": 1}),
        ("held_out", {"p90": "x"}),
        ("held_out", {"mape": float("inf")}),
        ("limits", {"max_decode_requests": 0}),
        ("limits", {"max_step_tokens": None}),
        ("power", {"busy_w": "x"}),
        ("power", {"pue": 0.5}),
        ("compute", {"peak_flops": 0}),
    ],
)
def test_a_damaged_profile_is_named(tmp_path: Path, part: str, change: dict[str, object]) -> None:
    content = shipped_profile("llama-3-8b-h100").to_json()
    content[part] |= change
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="cannot be read"):
        named_profile(str(path), tmp_path)


def test_a_pool_takes_the_machine_of_the_profile() -> None:
    profile = replace(shipped_profile("llama-3-8b-h100"), max_kv_tokens=400_000)
    pool = with_profile(POOL, "h", profile)
    assert pool.profile is not None
    assert pool.profile.limits.max_decode_requests == 32
    assert (pool.max_kv_tokens, pool.max_tokens_in_flight) == (400_000, 400_000)
    assert with_profile(replace(POOL, max_tokens_in_flight=500), "h", profile).max_tokens_in_flight == 500
    require_room(pool, "h", 400_000)
    with pytest.raises(ConfigError, match="KV cache of 400,000 tokens"):
        require_room(pool, "h", 400_001)


def test_a_profile_of_fewer_requests_than_the_engine_lets_in_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 64 requests at once") as caught:
        with_profile(replace(POOL, max_concurrency=65), "h", shipped_profile("llama-3-8b-h100"))
    assert "max_concurrency: 64" in str(caught.value)


def test_the_command_fits_and_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUNDOG_CACHE", str(tmp_path / "cache"))
    source = str(PUBLISHED / "llama-3-8b-a100.yaml")
    ran = sundog(tmp_path, "calibrate", "--from", source, "--name", "mine", "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["profile"] == str(tmp_path / "cache" / "profiles" / "named" / "mine.json")
    assert named_profile("mine", tmp_path / "cache") == shipped_profile("llama-3-8b-a100")
    shown = sundog(tmp_path, "calibrate", "--from", source).stdout
    assert "14.078 ms  a step" in shown
    assert "held out" in shown


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "nothing to calibrate"),
        (("flow.yaml", "--from", "x.yaml"), "measures no engine"),
        (("flow.yaml", "--name", "x"), "go with --from"),
        (("--from", "nowhere.yaml"), "No such file"),
    ],
)
def test_wrong_arguments_of_the_command(tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    ran = sundog(tmp_path, "calibrate", *arguments)
    assert ran.exit_code == 2
    assert what in ran.stderr
