"""An output that would replace what the run reads is refused, by whatever name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sundog.errors import ConfigError
from sundog.ir.logical import InputSource
from sundog.runtime.preflight.distinct_files import check_distinct

Put = Callable[[str, str | bytes], Path]


def path(pattern: str) -> InputSource:
    return InputSource("rows", path=pattern)


@pytest.fixture(autouse=True)
def files(put: Put, tmp_path: Path) -> None:
    put("rows.jsonl", "{}\n")
    put("folder/a.jsonl", "{}\n")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "rows.jsonl")
    os.link(tmp_path / "rows.jsonl", tmp_path / "hard.jsonl")
    (tmp_path / "side").symlink_to(tmp_path / "folder")


@pytest.mark.parametrize(
    ("output", "source", "what"),
    [
        ("rows.jsonl", path("rows.jsonl"), "the output {} is a file of input 'rows': it would be replaced"),
        ("folder/../rows.jsonl", path("rows.jsonl"), "the output {} is a file of input 'rows'"),
        ("link.jsonl", path("rows.jsonl"), "the output {} is a file of input 'rows'"),
        ("rows.jsonl", path("link.jsonl"), "the output {} is a file of input 'rows'"),
        ("hard.jsonl", path("rows.jsonl"), "the output {} is a file of input 'rows'"),
        ("folder/a.jsonl", path("*/*.jsonl"), "the output {} is a file of input 'rows'"),
        ("side/a.jsonl", path("folder/*.jsonl"), "the output {} is a file of input 'rows'"),
        ("rows.jsonl", InputSource("rows", query="select * from 'rows.jsonl'"), "the output {} is a file of input"),
        ("rows.jsonl", InputSource("rows", query="from read_json('*.jsonl')"), "the output {} is a file of input"),
        ("rows.jsonl", InputSource("rows", query="select 'it''s', 1 from 'rows.jsonl'"), "the output {} is a file"),
        (
            "new.jsonl",
            path("*.jsonl"),
            "the output {} would be a file of input 'rows' in the next run: '*.jsonl' match",
        ),
        ("side/new.jsonl", path("folder/*.jsonl"), "the output {} would be a file of input 'rows' in the next run"),
        ("folder/new.jsonl", path("**/*.jsonl"), "the output {} would be a file of input 'rows' in the next run"),
        ("new.jsonl", path("**/*.jsonl"), "the output {} would be a file of input 'rows' in the next run"),
        ("new.csv", path("*.jsonl"), "the errors file of the output {}.errors.jsonl would be a file of input 'rows'"),
        ("a.duckdb#t", path("*.jsonl"), "the errors file of the output "),
    ],
)
def test_an_output_that_is_read_is_refused(tmp_path: Path, output: str, source: InputSource, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_distinct(tmp_path / output, [source], tmp_path, {})
    assert caught.value.what.startswith(what.format(tmp_path / output))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("new.jsonl", path("rows.jsonl")),
        ("new.jsonl", path("row?.jsonl")),
        ("folder/new.jsonl", path("*.jsonl")),
        (".new.csv", path("*.jsonl")),
        ("new.csv", path("folder/*.jsonl")),
        ("rows.jsonl", InputSource("rows", call="rows:jsonl")),
        ("new.csv", InputSource("rows", query="select 'new' as a, '%new%' as b, '[' as c from 'rows.jsonl'")),
    ],
)
def test_an_output_of_its_own_is_none_of_it(tmp_path: Path, output: str, source: InputSource) -> None:
    check_distinct(tmp_path / output, [source], tmp_path, {tmp_path / "flow.yaml": "the flow"})


def test_other_files_of_the_flow_and_old_errors_files_are_looked_at(put: Put, tmp_path: Path) -> None:
    put("flow.json", "{}")
    put("out.csv.errors.jsonl", "{}\n")
    with pytest.raises(ConfigError, match="is the flow: it would be replaced"):
        check_distinct(tmp_path / "flow.json", [path("rows.jsonl")], tmp_path, {tmp_path / "flow.json": "the flow"})
    with pytest.raises(ConfigError, match=r"the errors file of the output .* is a file of input 'rows'"):
        check_distinct(tmp_path / "out.csv", [path("out.csv.errors.jsonl")], tmp_path, {})
