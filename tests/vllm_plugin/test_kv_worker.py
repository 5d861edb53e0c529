"""The workers' side on pages of plain bytes: two engines share, and what is not there is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sundog.vllm_plugin.kv import worker as kv_worker
from sundog.vllm_plugin.kv.plan import KVLoad, KVSave, KVTransfers
from sundog.vllm_plugin.kv.store import BlockStore
from sundog.vllm_plugin.kv.worker import KVWorker
from tests.vllm_plugin.test_kv_store import BLOCK_BYTES, key, open_store

NUM_BLOCKS = 8


class BytePages:
    """An engine of `NUM_BLOCKS` blocks; block i holds bytes of `first + i`."""

    block_bytes = BLOCK_BYTES

    def __init__(self, first: int) -> None:
        self.content = [bytes([first + number]) * BLOCK_BYTES for number in range(NUM_BLOCKS)]

    def gather(self, block_ids: Sequence[int]) -> memoryview:
        return memoryview(b"".join(self.content[block_id] for block_id in block_ids))

    def scatter(self, block_ids: Sequence[int], blocks: memoryview) -> None:
        assert blocks.nbytes == len(block_ids) * BLOCK_BYTES
        for position, block_id in enumerate(block_ids):
            self.content[block_id] = bytes(blocks[position * BLOCK_BYTES : (position + 1) * BLOCK_BYTES])

    def staging(self, num_blocks: int) -> memoryview:
        return memoryview(bytearray(num_blocks * BLOCK_BYTES))


class Later(Executor):
    """Runs nothing until it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append(lambda: future.set_result(fn(*args, **kwargs)))
        return future

    def run(self) -> None:
        for call in self.waiting:
            call()
        self.waiting.clear()


@pytest.fixture
def store(tmp_path: Path) -> BlockStore:
    return open_store(tmp_path)


@pytest.fixture
def threads() -> Iterator[Callable[[], ThreadPoolExecutor]]:
    started: list[ThreadPoolExecutor] = []

    def start() -> ThreadPoolExecutor:
        started.append(ThreadPoolExecutor(1))
        return started[-1]

    yield start
    for executor in started:
        executor.shutdown()


def test_one_engine_computes_and_the_other_loads(store: BlockStore, threads: Callable[[], Executor]) -> None:
    pages, others = BytePages(10), BytePages(50)
    first, second = (KVWorker(store, of, threads(), threads()) for of in (pages, others))
    first.save(KVTransfers(saves=[KVSave((3, 5), (key(0), key(1)))]))
    first.close()
    second.start_loads(KVTransfers([KVLoad("r", (2, 4), (key(0), key(1)))]))
    finished = None
    while finished is None or not finished.request_ids:
        finished = second.finished_loads(is_idle=True)
    assert finished.request_ids == {"r"}
    assert finished.failed_block_ids == frozenset()
    assert [load.num_bytes for load in finished.measured] == [2 * BLOCK_BYTES]
    assert (others.content[2], others.content[4]) == (pages.content[3], pages.content[5])
    assert others.content[3] == BytePages(50).content[3]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"damaged")])
def test_a_lost_block_and_those_after_it_are_reported(store: BlockStore, damage: Callable[[Path], None]) -> None:
    pages, reader, writer = BytePages(10), Later(), Later()
    worker = KVWorker(store, pages, reader, writer)
    worker.save(KVTransfers(saves=[KVSave((0, 1, 2), (key(0), key(1), key(2)))]))
    writer.run()
    damage(store.path(key(1)))
    worker.start_loads(KVTransfers([KVLoad("r", (5, 6, 7), (key(0), key(1), key(2)))]))
    reader.run()
    finished = worker.finished_loads(is_idle=False)
    assert finished.request_ids == {"r"}
    assert finished.failed_block_ids == {6, 7}
    assert finished.measured == ()
    assert pages.content[5] == pages.content[0]
    assert pages.content[6:] == BytePages(10).content[6:]


def test_a_load_touches_the_pages_only_when_asked(store: BlockStore) -> None:
    pages, reader, writer = BytePages(10), Later(), Later()
    worker = KVWorker(store, pages, reader, writer)
    worker.save(KVTransfers(saves=[KVSave((0,), (key(0),))]))
    writer.run()
    worker.start_loads(KVTransfers([KVLoad("r", (7,), (key(0),))]))
    assert worker.finished_loads(is_idle=False).request_ids == frozenset()
    reader.run()
    assert pages.content[7] != pages.content[0]
    assert worker.finished_loads(is_idle=False).request_ids == {"r"}
    assert pages.content[7] == pages.content[0]
    assert worker.finished_loads(is_idle=False).request_ids == frozenset()


def test_what_is_saved_is_what_the_block_held_then(store: BlockStore) -> None:
    pages, writer = BytePages(10), Later()
    worker = KVWorker(store, pages, Later(), writer)
    before = pages.content[0]
    worker.save(KVTransfers(saves=[KVSave((0,), (key(0),))]))
    pages.content[0] = bytes(BLOCK_BYTES)
    assert not store.has(key(0))
    writer.run()
    found = memoryview(bytearray(BLOCK_BYTES))
    assert store.read(key(0), found)
    assert bytes(found) == before


def test_a_slow_folder_drops_the_end_of_a_prefix(store: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_worker, "MAX_PENDING_BYTES", 3 * BLOCK_BYTES)
    writer = Later()
    worker = KVWorker(store, BytePages(10), Later(), writer)
    worker.save(KVTransfers(saves=[KVSave((0, 1), (key(0), key(1))), KVSave((2, 3), (key(2), key(3)))]))
    assert worker.take_num_dropped_blocks() == 1
    worker.save(KVTransfers(saves=[KVSave((4,), (key(4),))]))
    assert worker.take_num_dropped_blocks() == 1
    writer.run()
    assert [store.has(key(number)) for number in range(5)] == [True, True, True, False, False]
    worker.save(KVTransfers(saves=[KVSave((4,), (key(4),))]))
    assert worker.take_num_dropped_blocks() == 0


def test_a_block_that_another_replica_wrote_is_not_written_again(store: BlockStore) -> None:
    store.write(key(0), memoryview(bytes(BLOCK_BYTES)))
    written = store.path(key(0)).stat()
    writer = Later()
    KVWorker(store, BytePages(10), Later(), writer).save(KVTransfers(saves=[KVSave((0,), (key(0),))]))
    writer.run()
    now = store.path(key(0)).stat()
    assert now.st_ino == written.st_ino
    assert now.st_mtime_ns > written.st_mtime_ns
