"""Engines simulated as other machines, with what they take in energy: worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sundog.cost.energy import Power
from sundog.cost.optimum import Compute
from sundog.cost.profile import Profile, StepLimits
from sundog.cost.step_time import FitError, StepTime
from tests.cli.flows import sundog

FLOW = """
name: study
engines:
  local: {kind: "null", max_concurrency: 4, output_tokens: 6}
  other: {kind: "null", max_concurrency: 4, output_tokens: 6}
inputs:
  rows: {query: "select range as id from range(64)"}
nodes:
  ask:
    llm: {engine: local, prompt: "About {{ row.id }}.", max_tokens: 8}
outputs: {id: "{{ row.id }}", text: "{{ ask.text }}"}
"""
EXACT = FitError(1, 0.0, 0.0, 0.0)
POWER = Power(busy_w=100, idle_w=10, pue=1.5, grid_gco2e_per_kwh=360)
SLOW = Profile(
    StepTime(0.2, 0.0, 0.0, 0.0, 0.0, 0.0),
    StepLimits(512, 4),
    EXACT,
    EXACT,
    {"model": "m", "gpu": "one card", "assumed_zero": {"attention_pair_s": "no prompts"}},
    power=POWER,
    compute=Compute(2000, 10),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "slow.json").write_text(json.dumps(SLOW.to_json()))
    (tmp_path / "small.json").write_text(json.dumps(SLOW.to_json() | {"max_kv_tokens": 6}))
    (tmp_path / "narrow.json").write_text(
        json.dumps(SLOW.to_json() | {"limits": {"max_step_tokens": 9, "max_decode_requests": 3}})
    )
    sundog(tmp_path, "run", "flow.yaml", "--limit", "3", "--quiet")
    return tmp_path


def simulated(folder: Path, *options: str) -> dict[str, Any]:
    ran = sundog(folder, "simulate", "flow.yaml", "--format", "json", *options)
    assert ran.exit_code == 0, ran.stderr
    (found,) = json.loads(ran.stdout)["variants"]
    return dict(found)


@pytest.mark.parametrize("option", ["slow.json", "local=slow.json"])
def test_an_engine_is_as_fast_as_its_profile_and_takes_its_watts(folder: Path, option: str) -> None:
    """Sixteen waves of six steps of 0.2 s; all the time at 100 W, times 1.5, at 0.1 g a kilojoule."""
    found = simulated(
        folder, "--engine-profile", str(folder / option) if "=" not in option else option.replace("=", f"={folder}/")
    )
    assert found["makespan_s"]["expected"] == pytest.approx(19.2)
    assert found["energy"]["joules"] == pytest.approx(2880)
    assert found["energy"]["co2e_g"] == pytest.approx(0.288)
    assert found["energy"]["leaves_out"] == []
    (pool,) = found["pools"]
    num_tokens = pool["num_prompt_tokens"] + pool["num_output_tokens"]
    assert pool["optimum_share"] == pytest.approx(num_tokens / 19.2 / 100)
    assert any("simulated as" in line and "m on one card" in line for line in found["assumptions"])
    assert any("attention_pair_s is taken as 0" in line for line in found["assumptions"])


def test_replicas_that_wait_take_their_idle_watts(folder: Path) -> None:
    """One wave of four rows needs no second replica: 1.2 s at 100 W and 1.2 s at 10 W."""
    found = simulated(folder, "--engine-profile", str(folder / "slow.json"), "--rows", "4", "--replicas", "local=2")
    busy_s = found["energy"]["joules"] / 1.5
    assert found["makespan_s"]["expected"] == pytest.approx(1.2)
    assert busy_s in (pytest.approx(1.2 * 110), pytest.approx(2.4 * 100)), "one replica has all rows, or each has two"


def test_the_profile_of_another_engine_changes_nothing(folder: Path) -> None:
    """Neither engine was timed by steps, so the one in use has no energy."""
    found = simulated(folder, "--engine-profile", f"other={folder}/slow.json")
    assert found["energy"] is None
    assert found["makespan_s"]["expected"] < 1


def test_text_and_page_tell_the_energy(folder: Path) -> None:
    options = ("simulate", "flow.yaml", "--engine-profile", str(folder / "slow.json"))
    line = "energy: 2,880 J (0.0008 kWh), 0.288 g CO2e"
    assert line in sundog(folder, *options).stdout
    page = sundog(folder, *options, "--format", "html").stdout
    assert line in page
    assert "of the tokens that its arithmetic allows" in page


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("lama-3-8b-h100", "did you mean 'llama-3-8b-h100'?"),
        ("locl=llama-3-8b-h100", "did you mean 'local'?"),
        ("local=", "no profile is called ''"),
        ("nowhere.json", "No such file"),
        ("flow.yaml", "the file is no profile"),
        ("narrow.json", "at most 3 requests at once"),
        ("small.json", "KV cache of 6 tokens"),
    ],
)
@pytest.mark.parametrize("is_compared", [False, True])
def test_a_profile_that_does_not_suit_is_told(folder: Path, name: str, what: str, is_compared: bool) -> None:
    option = f"--engine-profile {folder / name if '.json' in name or '.yaml' in name else name}"
    ran = sundog(folder, "simulate", "flow.yaml", *(["--compare", option] if is_compared else option.split()))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert what in ran.stderr
