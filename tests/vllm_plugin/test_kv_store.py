"""The shared store: what is read is what was written, and the bound holds."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sundog.vllm_plugin.kv.block_file import BLOCK_HEADER, file_bytes
from sundog.vllm_plugin.kv.budget import Budget, scan
from sundog.vllm_plugin.kv.probe import measure_load
from sundog.vllm_plugin.kv.store import BlockStore

BLOCK_BYTES = 1000
FILE_BYTES = file_bytes(BLOCK_BYTES)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def block(number: int) -> memoryview:
    return memoryview(bytes([number % 251]) * BLOCK_BYTES)


def open_store(root: Path, *, max_blocks: int = 100, namespace: str = "a", rank: int = 0) -> BlockStore:
    return BlockStore(root, namespace, rank, Budget(root, max_blocks * FILE_BYTES))


def read(store: BlockStore, number: int) -> bytes | None:
    found = memoryview(bytearray(BLOCK_BYTES))
    return bytes(found) if store.read(key(number), found) else None


def held(store: BlockStore, last: int) -> list[int]:
    return [number for number in range(last) if store.has(key(number))]


def total_bytes(root: Path) -> int:
    return sum(file.num_bytes for folder in ("blocks", "parts") for file in scan(root / folder))


def test_a_block_comes_back(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert read(store, 1) is None
    assert store.write(key(1), block(1))
    assert store.has(key(1))
    assert read(store, 1) == bytes(block(1))
    assert read(open_store(tmp_path), 1) == bytes(block(1))


def test_other_namespaces_and_ranks_are_other_blocks(tmp_path: Path) -> None:
    open_store(tmp_path).write(key(1), block(1))
    assert not open_store(tmp_path, namespace="b").has(key(1))
    assert not open_store(tmp_path, rank=1).has(key(1))


def flipped(position: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        *(
            flipped(position)
            for position in (0, 4, 6, 10, 17, 25, BLOCK_HEADER.size, BLOCK_HEADER.size + 500, FILE_BYTES - 1)
        ),
        lambda content: content[:-1],
        lambda content: content[: BLOCK_HEADER.size],
        lambda content: content[:10],
        lambda content: b"",
        lambda content: content + b"x",
        lambda content: bytes(len(content)),
    ],
)
def test_a_damaged_file_is_a_miss_and_is_written_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    store = open_store(tmp_path)
    store.write(key(1), block(1))
    path = store.path(key(1))
    path.write_bytes(damage(path.read_bytes()))
    assert read(store, 1) is None
    assert not store.has(key(1))
    assert store.write(key(1), block(1))
    assert read(store, 1) == bytes(block(1))


def test_the_file_of_another_block_is_a_miss(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write(key(1), block(1))
    store.write(key(2), block(2))
    store.path(key(1)).replace(store.path(key(2)))
    assert read(store, 2) is None


def test_a_block_of_another_size_is_a_miss(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write(key(1), memoryview(b"short"))
    assert read(store, 1) is None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    ticks = itertools.count(1)
    budget = Budget(tmp_path, 4 * FILE_BYTES)
    store = BlockStore(tmp_path, "a", 0, budget, clock_ns=lambda: next(ticks) * 10**9)
    for number in range(4):
        store.write(key(number), block(number))
        store.mark_used([key(number)])
    store.mark_used([key(0)])
    store.write(key(4), block(4))
    # A slack of 5 % of four blocks is less than one: two go.
    assert held(store, 5) == [0, 3, 4]


def test_the_end_of_a_prefix_goes_before_its_start(tmp_path: Path) -> None:
    store = open_store(tmp_path, max_blocks=5)
    for number in range(5):
        store.write(key(number), block(number))
    store.mark_used([key(number) for number in range(5)])
    store.write(key(5), block(5))
    assert held(store, 6) == [0, 1, 2, 5]


def test_all_models_share_one_bound(tmp_path: Path) -> None:
    for namespace in ("a", "b", "c"):
        for number in range(10):
            open_store(tmp_path, max_blocks=10, namespace=namespace).write(key(number), block(number))
            assert total_bytes(tmp_path) <= 10 * FILE_BYTES


def test_a_block_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    budget = Budget(tmp_path, FILE_BYTES - 1)
    assert not BlockStore(tmp_path, "a", 0, budget).write(key(1), block(1))
    assert total_bytes(tmp_path) == 0


@pytest.mark.parametrize("content", [b"", b"torn", b"\xff" * 8, b"\0" * 9])
def test_a_wrong_ledger_is_counted_anew(tmp_path: Path, content: bytes) -> None:
    store = open_store(tmp_path, max_blocks=2)
    store.write(key(1), block(1))
    (tmp_path / "ledger").write_bytes(content)
    for number in range(2, 6):
        assert store.write(key(number), block(number))
        assert total_bytes(tmp_path) <= 2 * FILE_BYTES


def test_what_others_removed_makes_room(tmp_path: Path) -> None:
    store = open_store(tmp_path, max_blocks=2)
    for number in (1, 2):
        store.write(key(number), block(number))
    store.path(key(1)).unlink()
    assert store.write(key(3), block(3))
    assert held(store, 5) == [2, 3]


def test_a_part_left_behind_counts_and_is_removed_when_old(tmp_path: Path) -> None:
    budget = Budget(tmp_path, 2 * FILE_BYTES)
    left_behind = budget.reserve(FILE_BYTES)
    assert left_behind is not None
    store = BlockStore(tmp_path, "a", 0, budget)
    for number in range(3):
        assert store.write(key(number), block(number))
        assert total_bytes(tmp_path) <= 2 * FILE_BYTES
        assert held(store, 3) == [number]
    os.utime(left_behind, ns=(1, 1))
    store.write(key(3), block(3))
    store.write(key(4), block(4))
    assert not left_behind.exists()


def test_a_folder_that_was_removed_is_a_miss(tmp_path: Path) -> None:
    store = open_store(tmp_path / "kv")
    store.write(key(1), block(1))
    for path in sorted((tmp_path / "kv").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "kv").rmdir()
    assert read(store, 1) is None
    assert not store.write(key(1), block(1))
    store.mark_used([key(1)])


def test_a_cleared_store_is_empty_and_goes_on(tmp_path: Path) -> None:
    store, other = open_store(tmp_path), open_store(tmp_path, namespace="b")
    store.write(key(1), block(1))
    other.write(key(1), block(1))
    store.clear()
    assert not store.has(key(1))
    assert other.has(key(1))
    assert store.write(key(1), block(1))


def test_the_probe_leaves_nothing(tmp_path: Path) -> None:
    open_store(tmp_path)
    assert 0 < measure_load(tmp_path) < 1
    assert total_bytes(tmp_path) == 0
