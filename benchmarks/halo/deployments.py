"""The engines of a run: where they come from, and how they forget what an arm has taught them.

Owns the deployments that need no server: null and modelled. A deployment that starts servers has a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from halo.case import MODELS
from halo.endpoint import running_endpoint
from halo.modelled import MAX_STEP_TOKENS, load_s, step_time
from halo.vllm_servers import running_vllm
from sundog.cost.profile import Profile, StepLimits
from sundog.cost.step_time import FitError, StepTime
from sundog.errors import ConfigError, suggest

MAX_CONCURRENCY = 32
MODELLED_CONCURRENCY = 64
LATENCY_S = 0.002


@dataclass(frozen=True, slots=True)
class Deployment:
    """`blocks`: an engine block for each model. `forget`: empty every prefix cache. `process_ids`: of the servers.
    `versions`: what the report should name. `num_workers`: as of a case."""

    blocks: Mapping[str, Mapping[str, Any]]
    forget: Callable[[], None]
    process_ids: tuple[int, ...] = ()
    is_modelled: bool = False
    versions: Mapping[str, str] | None = None
    num_workers: int = 0


@dataclass(frozen=True, slots=True)
class Sizes:
    """`kv_tokens`: room for prefixes, for each model. `replicas`: of all models together, where they can be chosen."""

    kv_tokens: int
    replicas: int


def running_engines(name: str, sizes: Sizes) -> AbstractContextManager[Deployment]:
    """The engines called `name`, for as long as the block lasts; ConfigError for another name."""
    kinds: dict[str, Callable[[Sizes], AbstractContextManager[Deployment]]] = {
        "null": _null,
        "modelled": _modelled,
        "embedded": _embedded,
        "vllm": _vllm,
    }
    if name not in kinds:
        raise ConfigError(f"there are no engines called '{name}'", hint=suggest(name, kinds))
    return kinds[name](sizes)


@contextmanager
def _null(sizes: Sizes) -> Iterator[Deployment]:
    block = {"kind": "null", "latency_s": LATENCY_S, "max_concurrency": MAX_CONCURRENCY}
    yield Deployment({model: {**block, "model": model} for model in MODELS}, lambda: None)


@contextmanager
def _modelled(sizes: Sizes) -> Iterator[Deployment]:
    shares = {model: sizes.replicas // len(MODELS) for model in MODELS}
    # The larger models are the slower ones.
    for model in MODELS[len(MODELS) - sizes.replicas % len(MODELS) :]:
        shares[model] += 1
    block = {
        "kind": "null",
        "max_concurrency": MODELLED_CONCURRENCY,
        "max_kv_tokens": sizes.kv_tokens,
        "max_step_tokens": MAX_STEP_TOKENS,
        # As long as each step's max_tokens allow.
        "output_tokens": 1024,
    }
    # A new process, or a new engine, for each arm: there is nothing to forget.
    yield Deployment(
        {
            model: {
                **block,
                "model": model,
                "step_time": step_time(model),
                "load_s": load_s(model),
                "replicas": max(1, shares[model]),
            }
            for model in MODELS
        },
        lambda: None,
        is_modelled=True,
        num_workers=sizes.replicas,
    )


@contextmanager
def _embedded(sizes: Sizes) -> Iterator[Deployment]:
    with running_endpoint(sizes.kv_tokens, MAX_CONCURRENCY) as endpoint:
        blocks = _blocks(dict.fromkeys(MODELS, endpoint.base_url), sizes)
        # Each copy computes on all cores.
        shared = {model: {**block, "shared_device": "cpu"} for model, block in blocks.items()}
        yield Deployment(shared, endpoint.forget, endpoint.process_ids)


@contextmanager
def _vllm(sizes: Sizes) -> Iterator[Deployment]:
    with running_vllm(MODELS, sizes.kv_tokens, MAX_CONCURRENCY) as servers:
        yield Deployment(_blocks(servers.base_urls, sizes), servers.forget, servers.process_ids)


def _blocks(base_urls: Mapping[str, str], sizes: Sizes) -> dict[str, dict[str, Any]]:
    """The same for every arm; `max_tokens_in_flight` is what a user who knows the server's KV cache would write."""
    common = {"kind": "openai", "max_concurrency": MAX_CONCURRENCY, "max_tokens_in_flight": sizes.kv_tokens}
    return {model: {**common, "model": model, "base_url": url} for model, url in base_urls.items()}


def modelled_profile(model: str) -> Profile:
    """The modelled engine's own: what it does is what its model says."""
    limits = StepLimits(MAX_STEP_TOKENS, MODELLED_CONCURRENCY)
    exact = FitError(0, 0.0, 0.0, 0.0)
    coefficients = step_time(model)
    return Profile(StepTime(*coefficients, coefficients[3]), limits, exact, exact, {"processor": "modelled"})
