"""The processes of a Ray cluster on this machine, and how they are ended as a machine ends: at once, with all below."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


def raylet_of(node: Any) -> int:
    """Return the process of a node's raylet."""
    return int(node.all_processes["raylet"][0].process.pid)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill_nodes(nodes: Iterable[Any]) -> None:
    """End all processes of nodes, with the workers below them."""
    pids = {info.process.pid for node in nodes for kind in node.all_processes.values() for info in kind}
    for pid in pids | _below(pids):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def nodes_of(cluster: Cluster) -> list[Any]:
    """Return the head, if there is one, and the nodes."""
    head: Any = cluster.head_node
    return [*([head] if head is not None else []), *cluster.worker_nodes]


def _below(roots: set[int]) -> set[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it has ended
                parents[int(folder.name)] = parent_of(int(folder.name))
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in roots | found} - found:
        found |= more
    return found
