"""`sundog run --output folder/`: parts and a manifest, which belong to one run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.runtime.rows.folders import parts
from sundog.store.segments.storage import ObjectStorage
from tests.cli.flows import num_checks, report_of, sundog, working_directory, write_checked, write_review
from tests.cli.test_tables import write_wards
from tests.store.segments.storages import s3_server


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_PART_ROWS", 3)


def manifest_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "_manifest.json").read_text()))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder of JSON lines, which holds nothing else but errors."""
    manifest = manifest_of(folder)
    names = [part["name"] for part in manifest["parts"]]
    assert {file.name for file in folder.iterdir()} - {"errors.jsonl"} == {*names, "_manifest.json"}
    rows = [json.loads(line) for name in names for line in (folder / name).read_text().splitlines()]
    assert len(rows) == manifest["num_rows"]
    return rows


def test_a_folder_has_the_rows_that_a_file_has(tmp_path: Path) -> None:
    write_review(tmp_path)
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "answers.jsonl/")
    assert ran.exit_code == 0, ran.stderr
    assert "output   answers.jsonl/\n" in ran.stdout
    assert sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl").exit_code == 0
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert rows_of(tmp_path / "answers.jsonl") == [json.loads(line) for line in lines]
    assert len(manifest_of(tmp_path / "answers.jsonl")["parts"]) == 4


def test_failed_rows_that_are_retried_replace_the_parts(tmp_path: Path) -> None:
    write_checked(tmp_path, 8, bad="2")
    ran = report_of(sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl/", "--json"))
    folder = tmp_path / "out.jsonl"
    assert ran["errors"] == "out.jsonl/errors.jsonl"
    assert [json.loads(line)["row"] for line in (folder / "errors.jsonl").read_text().splitlines()] == [2]
    assert [row["id"] for row in rows_of(folder)] == [0, 1, 3, 4, 5, 6, 7]
    (tmp_path / "bad").write_text("")
    again = sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl/", "--retry-failed")
    assert again.exit_code == 0, again.stderr
    assert [row["id"] for row in rows_of(folder)] == list(range(8))
    assert not (folder / "errors.jsonl").exists()
    assert manifest_of(folder)["run_id"] == ran["run_id"]


def test_an_interrupted_run_leaves_errors_and_no_manifest(tmp_path: Path) -> None:
    write_checked(tmp_path, 8, bad="0 1")
    assert sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl/", "--max-errors", "1").exit_code == 1
    assert [file.name for file in (tmp_path / "out.jsonl").iterdir()] == ["errors.jsonl"]


@pytest.mark.parametrize("option", [["--fresh"], ["--limit", "3"]])
def test_another_run_is_refused_before_its_first_call(tmp_path: Path, option: list[str]) -> None:
    write_checked(tmp_path, 4, bad="")
    assert sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl/").exit_code == 0
    run_id = manifest_of(tmp_path / "out.jsonl")["run_id"]
    refused = sundog(tmp_path, "run", "flow.yaml", "--output", "out.jsonl/", *option)
    assert refused.exit_code == 2
    assert f"the folder out.jsonl/ holds the output of run {run_id}, and this is another run" in refused.stderr
    assert num_checks(tmp_path) == 4
    assert len(sundog(tmp_path, "runs").stdout.splitlines()) == 2, "it left no run behind"
    assert [row["id"] for row in rows_of(tmp_path / "out.jsonl")] == list(range(4))


def test_each_result_has_a_folder(tmp_path: Path) -> None:
    write_wards(tmp_path)
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "named=named.jsonl/", "--output", "seen=seen.jsonl/")
    assert ran.exit_code == 0, ran.stderr
    assert manifest_of(tmp_path / "named.jsonl")["table"] == "named"
    assert manifest_of(tmp_path / "seen.jsonl")["table"] == "seen"
    assert rows_of(tmp_path / "named.jsonl")
    refused = sundog(tmp_path, "run", "flow.yaml", "--output", "named=all/", "--output", "seen=all/")
    assert "both go to all/\n  name a folder for each" in refused.stderr


def test_an_input_that_the_parts_would_join_is_refused(tmp_path: Path) -> None:
    write_checked(tmp_path, 4, bad="")
    (tmp_path / "data").mkdir()
    (tmp_path / "rows.jsonl").rename(tmp_path / "data" / "rows.jsonl")
    words = ("run", "flow.yaml", "--input", "rows=data/*.jsonl")
    refused = sundog(tmp_path, *words, "--output", "data/")
    assert "the errors file of the output data/errors.jsonl would be a file of input 'rows'" in refused.stderr
    assert sundog(tmp_path, *words, "--output", "data/out/").exit_code == 0


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server(monkeypatch) as url:
        yield url


def test_a_bucket_has_the_rows_too(tmp_path: Path, bucket: str) -> None:
    write_checked(tmp_path, 8, bad="2")
    with working_directory(tmp_path):
        flow = sd.load("flow.yaml")
        result = flow.run(output=f"{bucket}/answers/")
    assert result.report.outputs == (f"{bucket}/answers/",)
    assert result.report.errors == f"{bucket}/answers/errors.jsonl"
    storage = ObjectStorage(f"{bucket}/answers")
    manifest = json.loads(storage.read("_manifest.json") or b"")
    names = {part["name"] for part in manifest["parts"]}
    assert set(storage.names("")) == {*names, "_manifest.json", "errors.jsonl"}, "the probe is gone"
    assert (len(names), manifest["num_rows"]) == (3, 7)


def test_a_bucket_that_is_not_there_is_told_before_the_first_call(tmp_path: Path, bucket: str) -> None:
    write_checked(tmp_path, 4, bad="")
    refused = sundog(tmp_path, "run", "flow.yaml", "--output", f"{bucket}-gone/answers/")
    assert refused.exit_code == 1
    assert "the storage failed" in refused.stderr
    assert not (tmp_path / "calls").exists()
    assert "no runs" in sundog(tmp_path, "runs").stdout + sundog(tmp_path, "runs").stderr
