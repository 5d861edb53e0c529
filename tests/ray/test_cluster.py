"""The cluster of these tests: what it has, and that it is whole again after a test has removed a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ray.clusters import NUM_NODES

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.ray
ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'sundog[ray]'")


class Place:
    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())


def alive() -> set[str]:
    return {one["NodeID"] for one in ray.nodes() if one["Alive"]}


def test_a_removed_node_is_gone(cluster: Cluster) -> None:
    assert len(alive()) == NUM_NODES + 1
    node = next(iter(cluster.worker_nodes))
    cluster.remove_node(node, allow_graceful=False)
    cluster.wait_for_nodes()
    assert len(cluster.worker_nodes) == NUM_NODES - 1


def test_actors_run_on_other_nodes_after_a_node_was_removed(cluster: Cluster) -> None:
    spread = ray.remote(Place).options(num_cpus=1, scheduling_strategy="SPREAD")
    places = [spread.remote() for _ in range(4)]
    found = set(ray.get([place.node.remote() for place in places], timeout=60))
    assert len(found) > 1
    assert found <= alive()
