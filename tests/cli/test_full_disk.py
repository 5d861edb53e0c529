"""A disk that fills up in the middle of a run: said in words, and nothing finished is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sundog.store import writer
from sundog.store.schema import connect_store
from tests.cli.flows import num_checks, sundog, write_checked

NUM_ROWS = 200
COMMAND = ("run", "flow.yaml", "--output", "out.csv", "--max-rows-in-flight", "4", "--max-errors", "1")


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm = tmp_path / "calm"
    calm.mkdir()
    write_checked(calm, NUM_ROWS, bad="7")
    assert sundog(calm, *COMMAND).exit_code == 0

    def connect_to_small_disk(path: Path) -> sqlite3.Connection:
        connection = connect_store(path)
        (num_pages,) = connection.execute("pragma page_count").fetchone()
        connection.execute(f"pragma max_page_count={num_pages + 1}")
        return connection

    write_checked(tmp_path, NUM_ROWS, bad="7")
    with monkeypatch.context() as patch:
        patch.setattr(writer, "connect_store", connect_to_small_disk)
        ran = sundog(tmp_path, *COMMAND)
    assert ran.exit_code == 1
    assert "store.sqlite: the disk is full\n  free some space and repeat the command" in ran.stderr
    assert "Traceback" not in ran.stderr
    num_called = num_checks(tmp_path)
    assert 0 < num_called < NUM_ROWS
    assert sundog(tmp_path, *COMMAND).exit_code == 0
    assert (tmp_path / "out.csv").read_bytes() == (calm / "out.csv").read_bytes()
    assert num_checks(tmp_path) <= NUM_ROWS + 2 * 4, "only calls that were in flight are made again"
