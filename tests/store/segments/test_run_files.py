"""Files of runs at a URL: what is fetched is what was kept, of any size; what nobody kept is made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from sundog.errors import StoreError
from sundog.store.runs import MADE_TABLES
from sundog.store.segments import storage
from tests.store.segments.storages import Machine

COMMAND = b"command"


@pytest.fixture
def machines(url: str, tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine(url, tmp_path / "one"), Machine(url, tmp_path / "other")


def begun(machine: Machine) -> str:
    return machine.runs.start(COMMAND, b"identity", "flow", "", 1, is_fresh=False).run_id


def test_large_files_are_kept_and_fetched_in_parts(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 * 2**20)  # S3 takes no smaller parts
    one, other = machines
    content = bytes(range(256)) * (50 * 2**10)
    with one.runs.lock(COMMAND):
        run_id = begun(one)
        for name, body in (("inputs/rows.jsonl", content), ("inputs/none.jsonl", b"")):
            one.write(run_id, name, body)
        one.runs.keep_files(run_id, "inputs/*")
    other.state.catch_up()
    other.runs.fetch_files(run_id)
    fetched = other.runs.folder(run_id) / "inputs"
    assert (fetched / "rows.jsonl").read_bytes() == content
    assert (fetched / "none.jsonl").read_bytes() == b""
    assert (fetched / "rows.jsonl").stat().st_mode & 0o077 == 0


def test_a_table_made_anew_elsewhere_replaces_the_one_here(machines: tuple[Machine, Machine]) -> None:
    """Its size says nothing: another digit in a row has the same."""
    one, other = machines
    with one.runs.lock(COMMAND):
        run_id = begun(one)
        made = one.write(run_id, "tables/t.jsonl", b"1")
        one.runs.keep_files(run_id, MADE_TABLES)
    other.state.catch_up()
    with other.runs.lock(COMMAND):
        other.runs.fetch_files(run_id)
        other.write(run_id, "tables/t.jsonl", b"2")
        other.runs.keep_files(run_id, MADE_TABLES)
    one.state.catch_up()
    one.runs.fetch_files(run_id)
    assert made.read_bytes() == b"2"


def test_a_table_that_was_dropped_elsewhere_is_not_taken_from_the_disk_here(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    with one.runs.lock(COMMAND):
        run_id = begun(one)
        made = one.write(run_id, "tables/t.jsonl", b"1")
        log = one.write(run_id, "events-0001.jsonl.gz", b"of a process that was killed")
        one.runs.keep_files(run_id, MADE_TABLES)
    other.state.catch_up()
    with other.runs.lock(COMMAND):
        other.runs.fetch_files(run_id)
        (other.runs.folder(run_id) / "tables/t.jsonl").unlink()
        other.runs.keep_files(run_id, MADE_TABLES)
    one.state.catch_up()
    one.runs.fetch_files(run_id)
    assert not made.exists()
    assert log.exists()


def test_a_file_that_vanished_is_told(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    with one.runs.lock(COMMAND):
        run_id = begun(one)
        one.write(run_id, "inputs/rows.jsonl", b"1")
        one.runs.keep_files(run_id, "inputs/*")
    other.state.catch_up()
    for name in [*one.state._storage.names("files")]:
        one.state._storage.drop(name)
    with pytest.raises(StoreError, match="is not in the state any more"):
        other.runs.fetch_files(run_id)
