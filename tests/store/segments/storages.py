"""Storages for tests of the log: a folder, an S3 server on this machine, and one whose requests fail as is told."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import boto3  # type: ignore[import-untyped]  # it has no types
import pytest
from moto.server import ThreadedMotoServer

from sundog.store.runs import RunList
from sundog.store.segments.cache import CachedState, open_cache
from sundog.store.segments.storage import ObjectStorage, StorageFailed
from sundog.store.store import Store

T = TypeVar("T")


def opened(storage: ObjectStorage, caches: Path) -> CachedState:
    """Return a cache of its own, as another machine would have it, made of the storage."""
    state = open_cache(storage, caches)
    state.catch_up()
    return state


class Machine:
    """A cache of its own, with its run list."""

    def __init__(self, url: str, folder: Path) -> None:
        self.state = opened(ObjectStorage(url), folder)
        self.store = Store(self.state.folder)
        self.runs = RunList(self.store, self.state.folder)

    def write(self, run_id: str, name: str, content: bytes) -> Path:
        path = self.runs.folder(run_id) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server with one bucket; gives the bucket's URL, with the environment that clients need."""
    # All servers of a process have the same buckets.
    bucket = f"bucket-{uuid4().hex}"
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        told = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=told["AWS_ENDPOINT_URL"], region_name=told["AWS_REGION"])
        client.create_bucket(Bucket=bucket)
        yield f"s3://{bucket}"
    finally:
        server.stop()


class FaultyStorage(ObjectStorage):
    """A storage whose requests fail before or after they are done, or come late, as a seed says: `share` of them."""

    def __init__(self, url: str, seed: int, share: float = 0.4) -> None:
        super().__init__(url)
        self._random = random.Random(seed)
        self._share = share
        self.num_faults = 0

    def create(self, name: str, body: bytes) -> bool:
        return self._tried(lambda: super(FaultyStorage, self).create(name, body))

    def replace(self, name: str, body: bytes) -> None:
        self._tried(lambda: super(FaultyStorage, self).replace(name, body))

    def read(self, name: str) -> bytes | None:
        return self._tried(lambda: super(FaultyStorage, self).read(name))

    def _tried(self, ask: Callable[[], T]) -> T:
        fault = self._random.choice(("before", "after", "late")) if self._random.random() < self._share else ""
        self.num_faults += bool(fault)
        if fault == "before":
            raise StorageFailed(self.url, OSError("a fault of the test, nothing was done"))
        if fault == "late":
            time.sleep(0.005)
        found = ask()
        if fault == "after":
            raise StorageFailed(self.url, OSError("a fault of the test, all was done"))
        return found
