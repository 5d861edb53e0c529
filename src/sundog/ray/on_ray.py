"""A run on a Ray cluster, as a command or a Python program asks for it.

Owns the order of what is checked: that Ray is there, that the state is one that all machines see, that the cluster
answers. Never opens the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sundog.errors import ConfigError
from sundog.ray.connection import connected, require_ray
from sundog.ray.options import RayOptions
from sundog.runtime.row_work import OpenWork
from sundog.store.segments.opened import state_cache


@contextmanager
def work_on_ray(options: RayOptions, state_dir: Path, base_dir: Path) -> Iterator[OpenWork]:
    """Be a driver of the cluster while the block lasts, and yield what `Session.open_run` takes. `state_dir`: the
    folder of the run's state; `base_dir`: that of the flow. ConfigError for a state of this machine alone, where Ray is
    not installed, and where no cluster answers."""
    require_ray()
    if state_cache(state_dir) is None:
        raise ConfigError(
            f"the state '{state_dir}' is a folder of this machine, and the machines of a cluster need one that all of "
            "them see",
            hint="--state s3://bucket/folder; or file:///FOLDER, where that is a folder which all machines share, or "
            "the cluster is this machine alone",
        )
    with connected(options.address):
        from sundog.ray.work import ray_work  # which imports ray

        yield ray_work(options, base_dir)
