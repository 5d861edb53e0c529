"""The core's books on devices: processors that the engines of several pools share.

Owns who shares what, how many there are, and asks the time-slice policy whose requests may start. Never decides, never
starts one.
"""

from __future__ import annotations

from sundog.sched.books.pool import Pool
from sundog.sched.policy import TimeSlice
from sundog.sched.views import DeviceView, SchedView


class DeviceBook:
    """This class has the books of the devices that pools share. `pools` and `sched` are the core's. Without a policy
    nobody waits for a slice."""

    def __init__(self, time_slice: TimeSlice | None, sched: SchedView, pools: dict[str, Pool]) -> None:
        self._time_slice = time_slice
        self._sched = sched
        self._pools = pools
        self._devices: dict[str, DeviceView] = {}
        self._shared: dict[str, str] = {}

    def add(self, device: str | None, pool: str) -> None:
        """An engine of the pool is on the device; None: it shares none."""
        if device is not None:
            self._shared[pool] = device
        self.count_devices()
        if device is None or self._time_slice is None:
            return
        view = self._devices.setdefault(device, DeviceView())
        self._pools[pool].device = view
        view.num_running.setdefault(pool, 0)
        view.num_waiting.setdefault(pool, 0)

    def count_devices(self) -> None:
        """An engine has come or gone."""
        engines = [name for name, pool in self._pools.items() if pool.num_cache_blocks]
        self._sched.num_devices = len({self._shared.get(name, name) for name in engines})

    def starting(self, pool: Pool) -> Pool:
        """Return the pool whose requests may start, now that something has changed in `pool`."""
        device = pool.device
        if device is None or self._time_slice is None or len(device.num_running) == 1:
            return pool
        self._count(device)
        device.sliced = self._time_slice(device, self._sched)
        return self._pools[device.sliced]

    def check(self) -> None:
        """Assert that no device idles while one of its engines has something to start."""
        for device in self._devices.values():
            self._count(device)
            assert sum(device.num_running.values()) or not sum(device.num_waiting.values()), device

    def _count(self, device: DeviceView) -> None:
        for name in device.num_running:
            pool = self._pools[name]
            device.num_running[name] = sum(replica.num_running for replica in pool.replicas)
            is_serving = any(replica.is_serving for replica in pool.replicas)
            device.num_waiting[name] = pool.num_waiting + pool.num_parked if is_serving else 0
