"""One KV block as a file: a header and the bytes of the block.

Owns the format, and that what is read is what was written. Never decides where a file lies or how long.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from sundog.errors import StoreError

MAGIC = b"SDKV"
BLOCK_FILE_VERSION = 1
# Magic, version, length of the key, bytes of the block, checksum of the block, key.
BLOCK_HEADER = struct.Struct("<4sHHQI64s")


def file_bytes(block_bytes: int) -> int:
    """Return the size of the file of a block."""
    return BLOCK_HEADER.size + block_bytes


def write_block(path: Path, key: bytes, block: memoryview) -> None:
    """Fill the file at `path`, which exists; OSError when the disk is full."""
    header = BLOCK_HEADER.pack(MAGIC, BLOCK_FILE_VERSION, len(key), block.nbytes, zlib.crc32(block), key)
    with path.open("r+b", buffering=0) as file:
        for part in (memoryview(header), block):
            _write_all(file.fileno(), part)


def read_block(path: Path, key: bytes, block: memoryview) -> None:
    """Fill `block` with the block of `key`; StoreError when the file holds anything else, OSError when it is not there.

    After an error `block` holds garbage.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(BLOCK_HEADER.size)
        num_read = _read_all(file.fileno(), block)
        is_longer = bool(file.read(1))
    checksum = BLOCK_HEADER.unpack(head)[4] if len(head) == BLOCK_HEADER.size else 0
    expected = BLOCK_HEADER.pack(MAGIC, BLOCK_FILE_VERSION, len(key), block.nbytes, checksum, key)
    if head != expected or num_read != block.nbytes or is_longer or zlib.crc32(block) != checksum:
        raise StoreError("the file of a KV block is damaged or another engine's", where=str(path))


def _write_all(fd: int, part: memoryview) -> None:
    while part:
        part = part[os.write(fd, part) :]


def _read_all(fd: int, block: memoryview) -> int:
    """Return how many bytes there were: fewer than `block` holds at the end of the file."""
    num_read = 0
    while num_read < block.nbytes and (num_new := os.readv(fd, [block[num_read:]])):
        num_read += num_new
    return num_read
