"""The KV blocks that the replicas of one model on one host share: files named by block hash.

Owns reading, writing and using a block. Whatever is wrong with a file, the block is not there. Knows nothing of vLLM.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sundog.errors import StoreError
from sundog.vllm_plugin.kv.block_file import file_bytes, read_block, write_block
from sundog.vllm_plugin.kv.budget import BLOCKS_DIR, Budget


class BlockStore:
    """The blocks of one namespace and one tensor-parallel rank; keys are block hashes of at most 64 bytes.

    `clock_ns`: the time of day, which all processes share and which orders eviction.
    """

    def __init__(
        self, root: Path, namespace: str, rank: int, budget: Budget, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._folder = root / BLOCKS_DIR / namespace / f"rank{rank}"
        self._budget = budget
        self._clock_ns = clock_ns

    def path(self, key: bytes) -> Path:
        name = key.hex()
        return self._folder / name[:2] / name

    def has(self, key: bytes) -> bool:
        return os.path.exists(self.path(key))  # noqa: PTH110 - thousands a second, and half the time of Path.exists

    def read(self, key: bytes, block: memoryview) -> bool:
        """Fill `block`; False when the block is not there. A damaged file is removed, so that it is written anew."""
        path = self.path(key)
        try:
            read_block(path, key, block)
        except StoreError:
            with contextlib.suppress(OSError):
                path.unlink()
            return False
        except OSError:
            return False
        return True

    def write(self, key: bytes, block: memoryview) -> bool:
        """Keep the block, which appears whole or not at all; False when there was no room for it."""
        path, part = self.path(key), None
        try:
            part = self._budget.reserve(file_bytes(block.nbytes))
            if part is None:
                return False
            write_block(part, key, block)
            path.parent.mkdir(parents=True, exist_ok=True)
            part.rename(path)
        except OSError:
            # A full disk, or the folder is gone: the block is computed again where it is needed.
            if part is not None:
                with contextlib.suppress(OSError):
                    part.unlink()
            return False
        return True

    def mark_used(self, keys: Sequence[bytes]) -> None:
        """The blocks of one prefix, its first block first, were used now. The first ones stay longest: a block is of
        no use without those before it."""
        now_ns = self._clock_ns()
        for position, key in enumerate(keys):
            with contextlib.suppress(OSError):
                os.utime(self.path(key), ns=(now_ns, now_ns - position))

    def clear(self) -> None:
        """Remove all blocks of this namespace and rank."""
        shutil.rmtree(self._folder, ignore_errors=True)
