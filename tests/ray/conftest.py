"""One Ray cluster for all tests of a process: a head and three nodes. A test that takes nodes away gets them from
`cluster` and need not put others there: the next test does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.ray.clusters import fill_up, ray_cluster

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@pytest.fixture(scope="session")
def started_cluster() -> Iterator[Cluster]:
    """The driver is this process."""
    with ray_cluster() as cluster:
        import ray

        ray.init(cluster.address, namespace="sundog-tests", log_to_driver=False, logging_level=logging.ERROR)
        yield cluster
        ray.shutdown()


@pytest.fixture
def cluster(started_cluster: Cluster) -> Cluster:
    fill_up(started_cluster)
    return started_cluster
