"""The workers' side of the KV connector: blocks from the store into the engine, and from there to the store.

Owns two threads, one that reads files and one that writes them, and the copies between them and the engine's pages. The
engine's memory is touched only by the calls of vLLM, between its forward passes. Never decides what is worth it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from typing import Protocol

from sundog.vllm_plugin.kv.plan import KVLoad, KVTransfers, MeasuredKVLoad
from sundog.vllm_plugin.kv.store import BlockStore

# Blocks that wait for the writer; more are not kept.
MAX_PENDING_BYTES = 512 * 1024 * 1024
# With nothing to compute the engine turns in a loop; a request that comes meanwhile waits no longer than this.
IDLE_WAIT_S = 0.005


class Pages(Protocol):
    """The engine's KV blocks, as bytes: all layers of a block after each other.

    `gather` copies blocks out, `scatter` copies blocks in, as many as the buffer holds of `block_bytes` each.
    """

    block_bytes: int

    def gather(self, block_ids: Sequence[int]) -> memoryview: ...

    def scatter(self, block_ids: Sequence[int], blocks: memoryview) -> None: ...

    def staging(self, num_blocks: int) -> memoryview:
        """Return an empty buffer for so many blocks."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A load whose blocks have been read from files."""

    load: KVLoad
    blocks: memoryview
    #: The number of blocks, from the first one on, that were read.
    num_good: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """Loads that are over."""

    request_ids: frozenset[str]
    #: Blocks that hold nothing useful and have to be computed.
    failed_block_ids: frozenset[int]
    measured: tuple[MeasuredKVLoad, ...]


class KVWorker:
    """This class moves blocks between the engine's pages and the store. `reader` and `writer` run what takes long; with
    one thread each, in order."""

    def __init__(self, store: BlockStore, pages: Pages, reader: Executor, writer: Executor) -> None:
        self._store = store
        self._pages = pages
        self._reader = reader
        self._writer = writer
        self._reads: set[Future[_Read]] = set()
        self._writes: dict[Future[None], int] = {}
        self._num_dropped_blocks = 0

    def start_loads(self, step: KVTransfers) -> None:
        for load in step.loads:
            self._reads.add(self._reader.submit(self._read, load))

    def save(self, step: KVTransfers) -> None:
        """Copy what is full now out of the engine's pages; the rest happens in the writer's thread."""
        for future in [future for future in self._writes if future.done()]:
            del self._writes[future]
            future.result()
        for keys in step.used:
            self._writes[self._writer.submit(self._store.mark_used, keys)] = 0
        free_bytes = MAX_PENDING_BYTES - sum(self._writes.values())
        for save in step.saves:
            num_blocks = min(len(save.keys), max(0, free_bytes // self._pages.block_bytes))
            self._num_dropped_blocks += len(save.keys) - num_blocks
            if num_blocks == 0:
                continue
            blocks = self._pages.gather(save.block_ids[:num_blocks])
            free_bytes -= blocks.nbytes
            self._writes[self._writer.submit(self._write, save.keys[:num_blocks], blocks)] = blocks.nbytes

    def finished_loads(self, *, is_idle: bool) -> Finished:
        """Return the loads that are over since the last call, now in the engine's pages."""
        if is_idle and self._reads:
            wait(self._reads, timeout=IDLE_WAIT_S, return_when=FIRST_COMPLETED)
        done = [future for future in self._reads if future.done()]
        self._reads.difference_update(done)
        reads = [future.result() for future in done]
        failed: set[int] = set()
        for read in reads:
            good, bad = read.load.block_ids[: read.num_good], read.load.block_ids[read.num_good :]
            if good:
                self._pages.scatter(good, read.blocks[: len(good) * self._pages.block_bytes])
            failed.update(bad)
        whole = [read for read in reads if read.num_good == len(read.load.keys)]
        measured = tuple(MeasuredKVLoad(read.blocks.nbytes, read.elapsed_s) for read in whole)
        return Finished(frozenset(read.load.request_id for read in reads), frozenset(failed), measured)

    def take_num_dropped_blocks(self) -> int:
        """Return the number of blocks that were not kept since the last call because the writer was behind."""
        num_dropped, self._num_dropped_blocks = self._num_dropped_blocks, 0
        return num_dropped

    def close(self) -> None:
        """Keep what is being written; forget what waits."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._writer.shutdown(wait=True, cancel_futures=True)

    def _read(self, load: KVLoad) -> _Read:
        started_s = time.perf_counter()
        size = self._pages.block_bytes
        blocks = self._pages.staging(len(load.keys))
        num_good = 0
        for key in load.keys:
            if not self._store.read(key, blocks[num_good * size : (num_good + 1) * size]):
                break
            num_good += 1
        self._store.mark_used(load.keys[:num_good])
        return _Read(load, blocks, num_good, time.perf_counter() - started_s)

    def _write(self, keys: Sequence[bytes], blocks: memoryview) -> None:
        size = self._pages.block_bytes
        for position, key in enumerate(keys):
            if not self._store.has(key):
                self._store.write(key, blocks[position * size : (position + 1) * size])
        self._store.mark_used(keys)
