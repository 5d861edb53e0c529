"""A store with flipped bytes is told as damaged, whatever SQLite or a decoder makes of it; never as a bug."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.flows import sundog, write_review
from tests.fuzz.budget import fuzz

RUN = ("run", "flow.yaml", "--output")
COMMANDS = ((*RUN, "out.csv"), (*RUN, "b.csv"), ("runs",), ("show", "last"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_review(folder)
    assert sundog(folder, *COMMANDS[0]).exit_code == 0
    return folder


@fuzz(0.06)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes(finished: Path, tmp_path: Path, flips: list[tuple[float, int]]) -> None:
    folder = tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(finished, folder)
    store = folder / ".sundog" / "store.sqlite"
    for name in ("store.sqlite-wal", "store.sqlite-shm"):
        (store.parent / name).unlink(missing_ok=True)
    content = bytearray(store.read_bytes())
    # Few bytes of a new store mean anything: half of the flips are where rows and columns begin.
    texts = [found.start() for found in re.finditer(rb'review-|done|finished|{"|facts|verdict', content)]
    for number, (place, mask) in enumerate(flips):
        targets = range(len(content)) if number % 2 else texts
        content[targets[int(place * len(targets))]] ^= mask
    store.write_bytes(content)
    for command in COMMANDS:
        told = sundog(folder, *command)
        assert told.exit_code in (0, 1, 2)
        assert "bug in sundog" not in told.stderr, told.stderr
