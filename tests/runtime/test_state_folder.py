"""The state folder: nobody else reads it, nothing leaves it, and the clock does not order it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sundog.api import Flow
from sundog.errors import StoreError
from sundog.store.runs import RunList
from sundog.store.store import Store
from tests.cli.flows import sundog, write_review


@pytest.fixture(autouse=True)
def usual_umask() -> object:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_only_the_owner_may_read_what_a_run_keeps(tmp_path: Path) -> None:
    write_review(tmp_path)
    assert sundog(tmp_path, "run", "flow.yaml", "--state", "deep/state").exit_code == 0
    flow = Flow("query", base_dir=tmp_path)
    flow.output(x=flow.input("rows", query="select 1 as x").x)
    flow.run(state=tmp_path / "deep/state")
    found = [tmp_path / "deep", *(tmp_path / "deep").rglob("*")]
    assert len(found) > 8
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in found}
    assert {path: oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_a_folder_that_was_there_keeps_its_mode_and_its_files_lose_theirs(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    (state / "store.sqlite").touch(0o644)
    Store(state).close()
    assert stat.S_IMODE(state.stat().st_mode) == 0o755
    assert stat.S_IMODE((state / "store.sqlite").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["store.sqlite", "store.lock"])
def test_nothing_is_opened_through_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs").touch()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError):
        Store(tmp_path / "state")
    assert (tmp_path / "theirs").read_bytes() == b""


def test_a_lock_is_not_opened_through_a_link(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    runs = RunList(store, tmp_path / "state")
    with runs.lock(b"x"):
        pass
    lock = tmp_path / "state" / "locks" / b"x".hex()
    lock.unlink()
    lock.symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError), runs.lock(b"x"):
        pass
    assert not (tmp_path / "theirs").exists()
    store.close()


@pytest.mark.parametrize(
    "name", ["../../escaped", "/tmp/escaped", "a/b", "..", "a\x00b", "x" * 5000, "é" * 300, "wo rd", "-x", "--help"]
)
def test_whatever_a_flow_is_called_its_files_stay_inside(tmp_path: Path, name: str) -> None:
    flow = Flow(name, base_dir=tmp_path)
    flow.output(id=flow.input("rows", rows=[{"id": 1}]).id)
    result = flow.run(state=tmp_path / "inner" / "state")
    assert [row["id"] for row in result] == [1]
    (folder,) = (tmp_path / "inner" / "state" / "runs").iterdir()
    assert folder.name == result.report.run_id
    assert not folder.name.startswith("-"), "it would be an option of a command"
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert [path.name for path in (tmp_path / "inner").iterdir()] == ["state"]


def test_the_newest_run_is_the_one_begun_last_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    runs = RunList(store, tmp_path)
    first = runs.start(b"c", b"i", "f", "", 1, is_fresh=False)
    monkeypatch.setattr("sundog.store.runs._now", lambda: "1999-01-01T00:00:00+00:00")
    second = runs.start(b"c", b"i", "f", "", 1, is_fresh=True)
    assert runs.latest(b"c") == second
    assert [record.run_id for record in runs.all()] == [second.run_id, first.run_id]
    store.close()
