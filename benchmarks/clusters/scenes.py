"""A cluster, a server that counts, and a folder, in which trials of faults happen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from clusters.cluster_runs import NUM_CELLS
from clusters.endpoint import Endpoint, counting_endpoint
from clusters.storage_proxy import BUCKET, StorageProxy, struck_storage
from tests.ray.clusters import ray_cluster
from tests.ray.nodes import kill_nodes, nodes_of

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

TOLD = ("repeat the command", "the same command continues the run")
"""A command that a fault has ended says in one of these what to do."""


class CommandFailed(Exception):
    """Raised where a command ended otherwise than a fault explains; caught by the trial, which notes it."""


class Scene:
    """A place for trials, one after another. `repeats` counts the commands after the first one, `to_first_call_s` is
    the longest time from one to its first call."""

    def __init__(self, folder: Path, endpoint: Endpoint, storage: StorageProxy) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.storage = storage
        self._clusters = ExitStack()
        self._cluster: Cluster | None = None
        self._process: subprocess.Popen[str] | None = None
        self.begin("")

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None, "it was started"
        return self._cluster

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None, "it was started"
        return self._process

    def begin(self, state: str) -> None:
        """Forget the last trial. `state`: the kind of storage of this one, `file` or `s3`."""
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        (self.folder / "out.jsonl").unlink(missing_ok=True)
        self.state = f"s3://{BUCKET}/{uuid4().hex}" if state == "s3" else f"file://{self.folder}/state"
        self.report: dict[str, Any] | None = None
        self.repeats = 0
        self.to_first_call_s = self.gap_before_s = 0.0
        self.storage.mode, self.storage.num_struck = "open", 0

    def new_cluster(self) -> None:
        """Start a cluster. What is left of the last one stays until `clear`."""
        self._cluster = self._clusters.enter_context(ray_cluster())

    def clear(self) -> None:
        """End the command and the clusters, whatever state they are in."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        if self._cluster is not None:
            kill_nodes(nodes_of(self._cluster))
        self._clusters.close()
        self._cluster = None

    def start(self) -> None:
        words = ("flow.yaml", "--on", "ray", "--address", self.cluster.address, "--cells", str(NUM_CELLS))
        more = ("--state", self.state, "--output", "out.jsonl", "--max-errors", "1000000", "--json")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sundog", "run", *words, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")},
        )

    def kill_driver(self) -> None:
        self.process.kill()
        self.process.communicate()

    def repeat(self) -> None:
        """Start the command again, and wait for its first call. The gap until then is that of the restart."""
        counts = self.endpoint.counts()
        self.gap_before_s = max(self.gap_before_s, counts.longest_gap_s)
        self.repeats += 1
        begin_s = time.monotonic()
        self.start()
        while self.process.poll() is None and self.endpoint.counts().num_calls == counts.num_calls:
            time.sleep(0.05)
        self.to_first_call_s = max(self.to_first_call_s, time.monotonic() - begin_s)
        self.endpoint.watch_gaps()

    def wait(self, timeout_s: float = 240.0) -> dict[str, Any] | None:
        """Return the report of a command; None where it has failed and told what to do. CommandFailed where it has told
        nothing, or does not end."""
        try:
            stdout, stderr = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"it has not ended after {timeout_s:.0f} s") from error
        if self.process.returncode == 0:
            self.report = json.loads(stdout.splitlines()[-1])
            return self.report
        if not any(words in stderr for words in TOLD) or "this is a bug" in stderr or "Traceback" in stderr:
            raise CommandFailed(f"exit code {self.process.returncode}: {stderr[-1500:]}")
        print(stderr.splitlines()[-2:], flush=True)
        return None


@contextmanager
def scenes(delay_s: float) -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        with struck_storage() as storage, counting_endpoint(delay_s) as endpoint:
            scene = Scene(folder, endpoint, storage)
            try:
                yield scene
            finally:
                scene.clear()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
