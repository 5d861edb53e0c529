"""The secrets of a job: neither its printed environment nor the state tells them, and its process has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sundog.errors import ConfigError
from sundog.ray.jobs.secret_values import JOB, PAD, drop_values, put_values, take_values

VALUES = {"API_KEY": "a value that nobody reads", "OTHER": "schlüssel"}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in (*VALUES, JOB, PAD):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return f"file://{tmp_path}/state"


def files(state: str) -> list[Path]:
    return [path for path in Path(state.removeprefix("file://")).rglob("*") if path.is_file()]


def test_a_job_takes_its_values_once(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = put_values(VALUES, state, "job-1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    take_values(state)
    assert {name: os.environ[name] for name in VALUES} == VALUES
    assert files(state) == []
    assert not {JOB, PAD} & os.environ.keys()
    take_values(state)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="not in the state any more"):
        take_values(state)


def test_neither_half_tells_a_value(state: str) -> None:
    variables = put_values(VALUES, state, "job-1")
    [left] = files(state)
    for value in VALUES.values():
        assert value not in "".join(variables.values())
        assert value.encode() not in left.read_bytes()
    assert b"API_KEY" not in left.read_bytes()
    assert put_values(VALUES, state, "job-2")[PAD] != variables[PAD]


def test_nothing_is_left_where_there_is_nothing_or_no_job(state: str) -> None:
    assert put_values({}, state, "job-1") == {}
    assert files(state) == []
    put_values(VALUES, state, "job-1")
    drop_values(state, "job-1")
    assert files(state) == []
