"""Prefill and decode apart, as users write it: `local=2+6:50GB/s`, with `:128KiB` for the KV cache of a token and
`:flip` for replicas that change their roles.

Owns this form and what it means for a workload. How calls pass from the one to the other is sim's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sundog.cost.plan_estimate import SampledPlan
from sundog.cost.pools import EnginePool
from sundog.errors import ConfigError
from sundog.ir.pool_names import engine_pool
from sundog.sched.policies.role_flip import by_load
from sundog.sim.workload import PhaseSplit, Workload, decode_pool

OPTION = "--split-phases"
_WRITTEN = re.compile(
    r"(?P<engine>[^=]+)=(?P<prefill>\d{1,9})\+(?P<decode>\d{1,9}):(?:(?P<rate>\d{1,9}(?:\.\d+)?)(?P<rate_unit>[KMGT](?:B|bit))/s|inf)"
    r"(?::(?P<size>\d{1,9}(?:\.\d+)?)(?P<size_unit>B|[KM]i?B))?(?P<flip>:flip)?",
    re.ASCII,
)
MAX_REPLICAS = 4096
"""The most replicas of an engine that a variant may have."""
_PREFIXES = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_SIZES = {"B": 1.0, "KB": 1e3, "MB": 1e6, "KiB": 1024.0, "MiB": 1024.0**2}


@dataclass(frozen=True, slots=True)
class ChosenSplit:
    """The replicas of one engine as a variant has them divided."""

    num_prefill_replicas: int
    num_decode_replicas: int
    #: Bytes per second of each replica's link; infinite where moving KV blocks takes no time.
    bandwidth_bytes_per_s: float
    #: None for what the engine's profile says.
    kv_bytes_per_token: float | None = None
    #: Replicas change their roles as the load does.
    flips: bool = False


def read_splits(written: Iterable[str]) -> dict[str, ChosenSplit]:
    """Return by engine what such texts say; ConfigError for another form.

    >>> split = read_splits(["local=2+6:400Gbit/s:128KiB"])["local"]
    >>> split.bandwidth_bytes_per_s, split.kv_bytes_per_token
    (50000000000.0, 131072.0)
    """
    return dict(_read(text) for text in written)


def _read(text: str) -> tuple[str, ChosenSplit]:
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ConfigError(
            "not of the form ENGINE=PREFILL+DECODE:BANDWIDTH",
            where=f"{OPTION} {text}",
            hint="as in local=2+6:50GB/s, local=2+6:400Gbit/s:128KiB (of KV cache a token) or local=2+6:inf; :flip may"
            " follow",
        )
    numbers = int(match["prefill"]), int(match["decode"])
    bandwidth = float("inf")
    if match["rate"] is not None:
        bandwidth = float(match["rate"]) * _PREFIXES[match["rate_unit"][0]]
        bandwidth /= 8.0 if match["rate_unit"].endswith("bit") else 1.0
    size = None if match["size"] is None else float(match["size"]) * _SIZES[match["size_unit"]]
    if not min(numbers) or not bandwidth or size == 0.0:
        raise ConfigError(
            "a number is 0", where=f"{OPTION} {text}", hint="each phase has a replica at least, and each link a rate"
        )
    if max(numbers) > MAX_REPLICAS:
        raise ConfigError(
            f"{max(numbers):,} replicas are too many", where=f"{OPTION} {text}", hint=f"at most {MAX_REPLICAS:,}"
        )
    return match["engine"], ChosenSplit(*numbers, bandwidth, size, match["flip"] is not None)


def with_splits(workload: Workload, chosen: Mapping[str, ChosenSplit], sampled: SampledPlan) -> Workload:
    """Return the workload with the phases of these engines apart. ConfigError for an engine whose phases, or whose KV
    cache, nobody knows."""
    engines = dict(workload.engines)
    for engine, one in chosen.items():
        pool = engine_pool(engine)
        if pool not in engines:
            continue  # no step of this variant uses it
        if engines[pool].engine.seconds is None:
            raise ConfigError(
                f"nothing tells how long prefill and decode take on '{engine}': it has no profile",
                where=f"{OPTION} {engine}",
                hint="name one with --engine-profile, or calibrate it: sundog calibrate FLOW --engine NAME",
            )
        kv_bytes = _kv_bytes(engine, one, sampled.known.pools[pool])
        split = PhaseSplit(decode_pool(pool), one.bandwidth_bytes_per_s, kv_bytes, by_load if one.flips else None)
        engines[decode_pool(pool)] = replace(engines[pool], num_replicas=one.num_decode_replicas)
        engines[pool] = replace(engines[pool], num_replicas=one.num_prefill_replicas, split=split)
    return replace(workload, engines=engines)


def _kv_bytes(engine: str, one: ChosenSplit, pool: object) -> float:
    profile = pool.profile if isinstance(pool, EnginePool) else None
    known = one.kv_bytes_per_token or (None if profile is None else profile.kv_bytes_per_token)
    if known is None and one.bandwidth_bytes_per_s < float("inf"):
        raise ConfigError(
            f"nothing tells how large the KV cache of a token is on '{engine}': its profile does not say",
            where=f"{OPTION} {engine}",
            hint="add it, as in :128KiB; it is 2 * layers * KV heads * head size * bytes of a number",
        )
    return known or 0.0


def split_notes(workload: Workload, chosen: Mapping[str, ChosenSplit]) -> Iterator[str]:
    """Yield a sentence for each engine whose phases are apart."""
    for engine, one in chosen.items():
        fleet = workload.engines.get(engine_pool(engine))
        if fleet is None or (split := fleet.split) is None:
            continue
        speed = "in no time"
        if split.bandwidth_bytes_per_s < float("inf"):
            speed = f"at {split.bandwidth_bytes_per_s / 1e9:,.1f} GB/s, {split.kv_bytes_per_token:,.0f} bytes a token"
        roles = "; a replica changes its role with the load, when it has ended what it runs" if one.flips else ""
        yield (
            f"'{engine}' computes prompts on {one.num_prefill_replicas} replicas and decodes on"
            f" {one.num_decode_replicas} ({decode_pool(engine)}); KV blocks move {speed}, after the whole prompt{roles}"
        )
