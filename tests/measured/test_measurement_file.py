"""Measurement files: what they hold, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sundog.errors import ConfigError
from sundog.measured.measurement_file import profile_of_measurements, read_content, read_measurements
from sundog.measured.named_profiles import read_profile_file

TABLE: dict[str, Any] = {
    "columns": ["num_requests", "prompt_tokens", "output_tokens", "ttft_ms", "tpot_ms"],
    "rows": [
        [
            batch,
            prompt,
            64,
            1e3 * (0.01 + batch * (25e-6 * prompt + 4e-9 * prompt**2 / 2)),
            1e3 * (0.01 + batch * 1e-4 + 1e-7 * batch * (prompt + 32)),
        ]
        for batch in (1, 8)
        for prompt in (100, 700, 2000)
    ],
}
GOOD: dict[str, Any] = {
    "model": "m",
    "gpu": "g",
    "source": {"title": "t"},
    "max_step_tokens": 100_000,
    "measurements": [TABLE],
}


def test_the_rows_tell_the_step_time() -> None:
    profile = profile_of_measurements(read_measurements(GOOD, "here"), "here")
    model = profile.step_time
    assert model.step_s == pytest.approx(0.01)
    assert model.prefill_token_s == pytest.approx(25e-6)
    assert model.decode_token_s == pytest.approx(1e-4)
    assert model.context_token_s == pytest.approx(1e-7)
    assert model.attention_pair_s == pytest.approx(4e-9)
    assert profile.limits.max_step_tokens == 100_000
    assert profile.measured_on["gpu"] == "g"


def test_a_throughput_is_a_time() -> None:
    table = {
        "columns": ["num_requests", "prompt_tokens", "output_tokens", "output_tokens_per_s"],
        "rows": [[4, 10, 100, 50]],
    }
    (batch,) = read_measurements({**GOOD, "measurements": [table]}, "here").measurements[0].batches()
    assert batch.latency_s == 8.0


def test_rows_that_are_left_out_are_not_fitted() -> None:
    wrong = {**TABLE, "rows": [[1, 100, 64, 1e6, 1e6]], "why": "somebody tripped over the cable"}
    given = read_measurements({**GOOD, "left_out": [wrong]}, "here")
    assert profile_of_measurements(given, "here").fitted.mape < 1e-6


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cost.md").read_text()
    (tmp_path / "example.yaml").write_text(
        page.partition("<!-- not run: a file of its own -->\n```yaml\n")[2].partition("```")[0]
    )
    profile = read_profile_file(tmp_path / "example.yaml")
    assert profile.fitted.mape < 0.02
    assert profile.power is not None


def changed(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "measurements": [{**TABLE, **changes}]}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "valid dictionary"),
        ({}, "model: Field required"),
        ({**GOOD, "modle": "x"}, "modle: Extra inputs"),
        ({**GOOD, "max_step_tokens": 0}, "max_step_tokens"),
        ({**GOOD, "measurements": []}, "measurements"),
        ({**GOOD, "assumed_zero": {"decode_tokens": "no idea"}}, "did you mean 'decode_token_s'"),
        ({**GOOD, "power": {"busy_w": -3}}, "not negative"),
        (changed(columns=["num_requests", "prompt_tokens", "output_tokens", "tptt_s"]), "no column is called 'tptt_s'"),
        (changed(columns=["num_requests", "prompt_tokens", "ttft_ms", "tpot_ms", "tpot_s"]), "no column output_tokens"),
        (changed(columns=["num_requests", "prompt_tokens", "output_tokens"]), "there is no time"),
        (changed(columns=[*TABLE["columns"][:4], "ttft_ms"]), "twice"),
        (changed(rows=[[1, 2, 3, 4]]), "row 1 has 4 values for 5 columns"),
        (changed(rows=[[1, 2, 3, 4, -5]]), "greater than"),
        (changed(rows=[[1, 1e200, 3, 4, 5]]), "less than"),
        (changed(rows=[[1, 2, 3, 4, 1e-300]]), "greater than"),
        (changed(rows=[[1, 2, 0.5, 4, 5]]), "a count is less than 1"),
        (changed(rows=[[1, 2, 3, 4, float("nan")]]), "finite"),
    ],
)
def test_a_mistake_is_named(content: object, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_measurements(content, "table.yaml")
    assert what in str(caught.value)
    assert "table.yaml" in str(caught.value)


def test_measurements_that_cannot_tell_say_what_to_measure() -> None:
    columns = [*TABLE["columns"][:3], "tpot_ms"]
    rows = [[*row[:3], row[4]] for row in TABLE["rows"]]
    with pytest.raises(ConfigError) as caught:
        profile_of_measurements(read_measurements(changed(columns=columns, rows=rows), "t.yaml"), "t.yaml")
    assert "t.yaml: the measurements cannot tell prefill_token_s and attention_pair_s" in str(caught.value)
    assert "the time to the first token of prompts of several lengths" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [1", "neither YAML nor JSON"),
        ("a: 1", "neither step_time nor measurements"),
        ("- 1", "neither step_time nor measurements"),
        ("", "neither step_time nor measurements"),
        ('{"step_time": 3}', "cannot be read"),
        ("a: !!python/object:x 1", "neither YAML nor JSON"),
    ],
)
def test_a_file_that_is_no_profile(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=what) as caught:
        read_profile_file(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_content(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"UTF-8"):
        read_content(tmp_path / "bytes.yaml")
