"""Faults of a run on a cluster: each is done to a scene while its command is at work."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from clusters.scenes import Scene
from tests.ray.clusters import processes_of
from tests.ray.nodes import kill_nodes, nodes_of, parent_of, raylet_of

STOPPED_S = 9.0
"""A cell that is stopped for so long is replaced after 5 s, and goes on beside the new one."""
STRUCK_S = 5.0
"""The storage is full, or slow, for so long."""


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault."""

    do: Callable[[Scene], None]
    #: The storage of the state, `file` or `s3`.
    state: str = "file"
    #: The cluster is of no more use afterwards.
    takes_cluster: bool = False


def kill_one(title: str) -> Callable[[Scene], None]:
    return lambda scene: os.kill(random.choice(processes_of(title)), signal.SIGKILL)


def stop_cell(scene: Scene) -> None:
    pid = random.choice(processes_of("ray::CellActor"))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(STOPPED_S)
    os.kill(pid, signal.SIGCONT)


def lose_node(scene: Scene) -> None:
    """End all processes of a node on which the driver is not: with its own machine a driver ends too."""
    of_driver = _raylets_of_driver()
    others = [node for node in scene.cluster.worker_nodes if raylet_of(node) not in of_driver]
    node = random.choice(others)
    kill_nodes([node])
    scene.cluster.remove_node(node, allow_graceful=False)


def kill_driver(scene: Scene) -> None:
    scene.kill_driver()
    scene.repeat()


def kill_head(scene: Scene) -> None:
    """End the machine of the head; with it the driver, if that is there. A command that does not end as it should tells
    what to do, which is done."""
    has_driver = raylet_of(scene.cluster.head_node) in _raylets_of_driver()
    kill_nodes([scene.cluster.head_node])
    if has_driver:
        scene.kill_driver()
    elif scene.wait() is not None:
        return
    scene.new_cluster()
    scene.repeat()


def kill_head_and_driver(scene: Scene) -> None:
    """Cells of other machines work on until they notice, beside those of the new cluster."""
    kill_nodes([scene.cluster.head_node])
    scene.kill_driver()
    scene.new_cluster()
    scene.repeat()


def kill_cluster(scene: Scene) -> None:
    kill_nodes(nodes_of(scene.cluster))
    scene.kill_driver()
    scene.new_cluster()
    scene.repeat()


def fill_log(scene: Scene) -> None:
    scene.storage.mode = "full"
    time.sleep(STRUCK_S)
    scene.storage.mode = "open"


def fill_log_until_killed(scene: Scene) -> None:
    """The storage stays full until somebody ends the command, makes room and repeats it."""
    scene.storage.mode = "full"
    time.sleep(STRUCK_S)
    scene.kill_driver()
    scene.storage.mode = "open"
    scene.repeat()


def fill_log_for_good(scene: Scene) -> None:
    """The storage stays full until the run ends by itself, after more than 5 minutes."""
    scene.storage.mode = "full"
    report = scene.wait(900)
    assert report is None, "it cannot have ended well"
    scene.storage.mode = "open"
    scene.repeat()


def slow_log(scene: Scene) -> None:
    scene.storage.delay_s = random.uniform(0.5, 2.0)
    scene.storage.mode = "slow"
    time.sleep(STRUCK_S)
    scene.storage.mode = "open"


def _raylets_of_driver() -> set[int]:
    """Return the raylets beside which owners live, which is where their driver is."""
    return {parent_of(pid) for pid in processes_of("ray::OwnerActor")}


STRIKES: dict[str, Strike] = {
    "none": Strike(lambda scene: None),
    "cell killed": Strike(kill_one("ray::CellActor")),
    "owner killed": Strike(kill_one("ray::OwnerActor")),
    "node lost": Strike(lose_node),
    "cell stopped, replaced, continued": Strike(stop_cell),
    "driver killed, command repeated": Strike(kill_driver),
    "log slow": Strike(slow_log, state="s3"),
    "log full": Strike(fill_log, state="s3"),
    "log full, command killed and repeated": Strike(fill_log_until_killed, state="s3"),
    "head killed": Strike(kill_head, takes_cluster=True),
    "head and driver killed, command repeated": Strike(kill_head_and_driver, takes_cluster=True),
    "cluster killed, command repeated": Strike(kill_cluster, takes_cluster=True),
}
LONG: dict[str, Strike] = {"log full for good, command repeated": Strike(fill_log_for_good, state="s3")}
"""Done only where they are named."""
