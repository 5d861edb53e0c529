"""The package of a job: which files of a flow's folder go along, and that equal folders make equal packages."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from sundog.errors import ConfigError
from sundog.ray.jobs import package
from sundog.ray.jobs.package import write_package


def names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as packed:
        return packed.namelist()


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_hidden_files_bytecode_and_environments_stay(tmp_path: Path) -> None:
    flow = tmp_path / "flow"
    write(flow, "flow.yaml", "data/rows.jsonl", ".env", ".git/config", ".sundog/store.sqlite", "checks.py")
    write(flow, "__pycache__/checks.pyc", "venv/pyvenv.cfg", "venv/lib/module.py", "data/.hidden/rows.jsonl")
    write_package(flow, tmp_path / "flow.zip")
    assert names_in(tmp_path / "flow.zip") == ["checks.py", "flow.yaml", "data/rows.jsonl"]


def test_what_git_ignores_goes_along(tmp_path: Path) -> None:
    flow = tmp_path / "flow"
    write(flow, "flow.yaml", "rows.jsonl")
    (flow / ".gitignore").write_text("*.jsonl\n")
    write_package(flow, tmp_path / "flow.zip")
    assert "rows.jsonl" in names_in(tmp_path / "flow.zip")


def test_equal_files_make_equal_packages(tmp_path: Path) -> None:
    """Ray knows a package by its content, and so does a command its job."""
    for name in ("one", "two"):
        write(tmp_path / name, "flow.yaml", "rows.jsonl")
        write_package(tmp_path / name, tmp_path / f"{name}.zip")
        os.utime(tmp_path / name / "flow.yaml", (0, 0))
    write_package(tmp_path / "one", tmp_path / "three.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "three.zip").read_bytes()


def test_a_folder_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MAX_PACKAGE_BYTES", 10)
    write(tmp_path / "flow", "flow.yaml", "rows.jsonl")
    with pytest.raises(ConfigError, match=r"too much to send along\n.*--shared"):
        write_package(tmp_path / "flow", tmp_path / "flow.zip")
