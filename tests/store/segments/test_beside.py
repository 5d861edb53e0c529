"""Logs of one run beside one another: those of its cells, which its driver reads and seals."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sundog.errors import StoreError
from sundog.ir.row_ids import RowRef
from sundog.store.segments import patience, sending
from sundog.store.segments.positions import read_family
from sundog.store.segments.storage import ObjectStorage, StorageFailed
from sundog.store.store import Store
from tests.store.segments.storages import Machine

COMMAND = b"command"
DRIVER, CELL = COMMAND.hex(), f"{COMMAND.hex()}.cell-0"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/shared"


def failed_rows(machine: Machine, run_id: str) -> int:
    with closing(Store(machine.state.folder)) as store:
        return store.count_states(run_id)["failed"]


def fail_row(machine: Machine, log: str, run_id: str, number: int) -> None:
    async def write(store: Store) -> None:
        store.open_writer()
        await store.put_row(run_id, RowRef("", (number,)), "failed", b"{}", ())

    with closing(Store(machine.state.folder)) as store, store.writing_to(log):
        asyncio.run(write(store))


def test_what_a_driver_changes_comes_after_the_cells_that_it_had_read(url: str, tmp_path: Path) -> None:
    """Also where the name of the cell's log comes later, and the log of a cell of the next driver comes last."""
    cell, driver, third = (Machine(url, tmp_path / name) for name in ("cell", "driver", "third"))
    fail_row(cell, CELL, "r", 1)
    driver.state.catch_up()
    with closing(Store(driver.state.folder)) as store, store.writing_to(DRIVER):
        store.forget_failed_rows("r")
        store.meet_others()
        cell.state.catch_up()
        assert failed_rows(cell, "r") == 0
        fail_row(cell, f"{COMMAND.hex()}.cell-1", "r", 2)
    third.state.catch_up()
    assert failed_rows(third, "r") == 1


def test_a_cache_reads_no_further_than_the_other_log_had_been_read(url: str, tmp_path: Path) -> None:
    """Each of the two logs has a segment that comes after one of the other: neither is read to its end first."""
    one, other, third = (Machine(url, tmp_path / name) for name in ("one", "other", "third"))
    for machine, log in ((one, DRIVER), (other, CELL), (one, DRIVER), (other, CELL)):
        machine.state.catch_up()
        fail_row(machine, log, "r", len(log))
    third.state.catch_up()
    with closing(Store(third.state.folder)) as store:
        assert read_family(store.connection, "none") == {}
        assert read_family(store.connection, DRIVER) == {CELL: 6}


def test_who_writes_to_a_sealed_log_finds_out(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SEND_EVERY_S", 0.05)
    cell, driver = (Machine(url, tmp_path / name) for name in ("cell", "driver"))

    async def write(store: Store) -> None:
        store.open_writer()
        await store.put_row("r", RowRef("", (1,)), "failed", b"{}", ())
        await store.write(awaits_log=True)
        driver.state.seal(CELL)
        assert failed_rows(driver, "r") == 1
        await store.put_row("r", RowRef("", (2,)), "failed", b"{}", ())
        with pytest.raises(sending.Overtaken, match="taken over"):
            await store.write(awaits_log=True)

    with pytest.raises(StoreError), closing(Store(cell.state.folder)) as store, store.writing_to(CELL):
        asyncio.run(write(store))
    driver.state.seal(CELL)
    assert failed_rows(driver, "r") == 1
    assert driver.state.logs_beside(DRIVER) == [CELL]


def test_whoever_goes_on_with_a_run_seals_the_logs_of_its_cells(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that needs no cells itself: cells of a driver that was killed may live on for a while."""
    monkeypatch.setattr(sending, "SEND_EVERY_S", 0.05)
    cell, driver, third = (Machine(url, tmp_path / name) for name in ("cell", "driver", "third"))
    driver.state.put_scratch(f"{DRIVER}/killed/rows", b"rows")

    async def write(store: Store) -> None:
        store.open_writer()
        await store.put_row("r", RowRef("", (1,)), "failed", b"{}", ())
        await store.write(awaits_log=True)
        with closing(Store(driver.state.folder)) as of_driver, of_driver.writing_to(DRIVER):
            of_driver.forget_failed_rows("r")
        await store.put_row("r", RowRef("", (2,)), "failed", b"{}", ())
        with pytest.raises(sending.Overtaken, match="taken over"):
            await store.write(awaits_log=True)

    with pytest.raises(StoreError), closing(Store(cell.state.folder)) as store, store.writing_to(CELL):
        asyncio.run(write(store))
    third.state.catch_up()
    assert failed_rows(third, "r") == 0, "what the driver has changed comes after what it has sealed"
    with pytest.raises(StoreError, match="not in the state"):
        third.state.scratch(f"{DRIVER}/killed/rows")


def test_a_log_is_sealed_before_its_cell_takes_it(url: str, tmp_path: Path) -> None:
    """The cell begins late, and its log is a closed one that it may take: what it writes there is read as any other."""
    cell, driver = (Machine(url, tmp_path / name) for name in ("cell", "driver"))
    driver.state.seal(CELL)
    fail_row(cell, CELL, "r", 1)
    driver.state.read([CELL])
    assert failed_rows(driver, "r") == 1


def test_what_a_run_on_cells_asks_the_storage_for_is_asked_until_it_answers(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "MAX_WAIT_S", 0.002)
    machine = Machine(url, tmp_path / "driver")
    fail_row(Machine(url, tmp_path / "cell"), CELL, "r", 1)
    asked: Counter[str] = Counter()

    class Away(ObjectStorage):
        """All requests of a kind fail twice before they are answered."""

        def _fail_twice(self, kind: str) -> None:
            asked[kind] += 1
            if asked[kind] <= 2:
                raise StorageFailed(url, OSError("it is full"))

        def create(self, name: str, body: bytes) -> bool:
            self._fail_twice("create")
            return super().create(name, body)

        def replace(self, name: str, body: bytes) -> None:
            self._fail_twice("replace")
            super().replace(name, body)

        def read(self, name: str) -> bytes | None:
            self._fail_twice("read")
            return super().read(name)

        def names(self, folder: str, after: str = "") -> Iterator[str]:
            self._fail_twice("names")
            return super().names(folder, after)

        def folders(self, folder: str) -> list[str]:
            self._fail_twice("folders")
            return super().folders(folder)

        def drop(self, name: str) -> None:
            self._fail_twice("drop")
            super().drop(name)

        def keep(self, name: str, file: Path) -> None:
            self._fail_twice("keep")
            super().keep(name, file)

    state = machine.state
    state._storage = Away(url)
    state.put_scratch("rows/000000", b"rows")
    assert state.scratch("rows/000000") == b"rows"
    state.drop_scratch("rows")
    assert state.logs_beside(DRIVER) == [CELL]
    state.read([CELL])
    assert failed_rows(machine, "r") == 1
    state.seal(f"{CELL}1")
    state.put_file("digest", machine.write("r", "file", b"content"))
    assert sorted(asked) == ["create", "drop", "folders", "keep", "names", "read", "replace"]
    assert min(asked.values()) >= 3
