"""The speed at which blocks are read from a folder: one measurement at the start of an engine.

Owns the measurement. What the system has cached in memory is read fast, as a block that was just written will be.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from sundog.vllm_plugin.kv.block_file import file_bytes, read_block, write_block
from sundog.vllm_plugin.kv.budget import PARTS_DIR

NUM_BYTES = 4 * 1024 * 1024
NUM_READS = 3


def measure_load(root: Path) -> float:
    """Return the seconds per byte to read and check a block of some megabytes, the best of a few; OSError when the disk
    is full.

    `root`: a folder with a budget. What a killed measurement leaves behind is removed as a killed writer's part is.
    """
    block = memoryview(bytearray(NUM_BYTES))
    with tempfile.NamedTemporaryFile(dir=root / PARTS_DIR) as file:
        file.truncate(file_bytes(NUM_BYTES))
        path = Path(file.name)
        write_block(path, b"probe", block)
        return min(_read_s(path, block) for _ in range(NUM_READS)) / NUM_BYTES


def _read_s(path: Path, block: memoryview) -> float:
    started_s = time.perf_counter()
    read_block(path, b"probe", block)
    return time.perf_counter() - started_s
