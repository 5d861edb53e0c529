"""The shared store under several processes: they share, they keep the bound, and one that is killed harms nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sundog.vllm_plugin.kv import budget as kv_budget
from sundog.vllm_plugin.kv.budget import Budget
from sundog.vllm_plugin.kv.store import BlockStore
from tests.vllm_plugin.test_kv_store import FILE_BYTES, block, held, key, open_store, read, total_bytes

# argv: folder, first number, end number, most blocks.
WRITER = """
import sys
from pathlib import Path
from sundog.vllm_plugin.kv.budget import scan
from tests.vllm_plugin.test_kv_store import block, key, open_store, read, total_bytes, FILE_BYTES
root, (first, end, max_blocks) = Path(sys.argv[1]), map(int, sys.argv[2:])
store = open_store(root, max_blocks=max_blocks)
for number in range(first, end):
    store.write(key(number), block(number))
    store.mark_used([key(number)])
    # Files that come and go while they are counted: both are counted.
    assert total_bytes(root) <= (max_blocks + 4) * FILE_BYTES
    earlier = max(first, number - 3)
    assert read(store, earlier) in (None, bytes(block(earlier)))
"""
HALF_WRITER = """
import os, signal, sys
from pathlib import Path
from sundog.vllm_plugin.kv import block_file as kv_block_file
from tests.vllm_plugin.test_kv_store import block, key, open_store
def write_half(fd, part):
    os.write(fd, part[: len(part) // 2])
    print("half", flush=True)
    signal.pause()
kv_block_file._write_all = write_half
open_store(Path(sys.argv[1]), max_blocks=3).write(key(1), block(1))
"""


def start(script: str, root: Path, *arguments: int, stdout: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(root), *map(str, arguments)]
    folder = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder)])}
    return subprocess.Popen(command, stdout=stdout, text=True, env=environment)


def test_two_processes_share(tmp_path: Path) -> None:
    assert start(WRITER, tmp_path, 0, 5, 100).wait(30) == 0
    store = open_store(tmp_path)
    assert held(store, 10) == [0, 1, 2, 3, 4]
    assert [read(store, number) for number in range(5)] == [bytes(block(number)) for number in range(5)]


def test_the_bound_holds_under_two_writers(tmp_path: Path) -> None:
    writers = [start(WRITER, tmp_path, first, first + 300, 20) for first in (0, 150)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert total_bytes(tmp_path) <= 20 * FILE_BYTES
    store = open_store(tmp_path)
    left = held(store, 450)
    assert 10 <= len(left) <= 20
    assert [read(store, number) for number in left] == [bytes(block(number)) for number in left]


def test_a_killed_writer_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    writer = start(HALF_WRITER, tmp_path, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout as told:
        assert told.readline() == "half\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)
    store = open_store(tmp_path, max_blocks=3)
    assert not store.has(key(1))
    assert read(store, 1) is None
    assert total_bytes(tmp_path) == FILE_BYTES
    for number in range(1, 6):
        assert store.write(key(number), block(number))
        assert total_bytes(tmp_path) <= 3 * FILE_BYTES
    assert read(store, 5) == bytes(block(5))


def test_a_writer_that_holds_the_lock_stops_no_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_budget, "LOCK_TIMEOUT_S", 0.01)
    budget = Budget(tmp_path, 10 * FILE_BYTES)
    store = BlockStore(tmp_path, "a", 0, budget)
    store.write(key(1), block(1))
    with budget._locked() as fd:
        assert fd is not None
        assert read(store, 1) == bytes(block(1))
        assert not open_store(tmp_path).write(key(2), block(2))
    assert open_store(tmp_path).write(key(2), block(2))
