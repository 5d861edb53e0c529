"""Profiles by name: of machines that are not this one, from a file, from the cache folder, or shipped with sundog.

Owns where a name is looked for and whether a profile suits an engine. Never measures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from sundog.engines.embedded.models import cache_folder
from sundog.errors import ConfigError, suggest
from sundog.measured.profiles import write_profile

if TYPE_CHECKING:
    from sundog.cost.pools import EnginePool
    from sundog.cost.profile import Profile

SUFFIXES = (".json", ".yaml", ".yml")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


def named_profile(text: str, folder: Path | None = None) -> Profile:
    """Return the profile that `text` names: a file (a path with a suffix or a folder), one of the cache `folder` (None:
    that of this machine), or a shipped one, in this order. ConfigError where there is none, with the closest name, and
    for a file that is no profile."""
    folder = cache_folder() if folder is None else folder
    if Path(text).suffix in SUFFIXES or "/" in text:
        return read_profile_file(Path(text))
    own = _own_path(folder, text)
    if NAME.fullmatch(text) and own.exists():
        return read_profile_file(own)
    if text in shipped_names():
        return shipped_profile(text)
    raise ConfigError(
        f"no profile is called '{text}'",
        where=_option(text),
        hint=suggest(text, (*shipped_names(), *own_names(folder))) + " or give a file",
    )


def shipped_names() -> tuple[str, ...]:
    """Return the names of the shipped profiles, in order."""
    names = (one.name for one in files("sundog.measured").joinpath("published").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def own_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the profiles in the cache `folder`, in order."""
    return tuple(sorted(path.stem for path in (folder / "profiles" / "named").glob("*.json")))


@cache
def shipped_profile(name: str) -> Profile:
    """Return a shipped profile, fitted to its published measurements."""
    with as_file(files("sundog.measured").joinpath("published", f"{name}.yaml")) as path:
        return read_profile_file(path)


def read_profile_file(path: Path) -> Profile:
    """Return the profile of a file that `calibrate` wrote, or the fit to a measurement file; ConfigError for others."""
    from sundog.cost.profile import Profile
    from sundog.measured.measurement_file import profile_of_measurements, read_content, read_measurements

    content = read_content(path)
    if isinstance(content, Mapping) and "step_time" in content:
        try:
            return Profile.from_json(content)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"the profile cannot be read: {error!r}", where=str(path), hint="calibrate writes it anew"
            ) from error
    if isinstance(content, Mapping) and "measurements" in content:
        return profile_of_measurements(read_measurements(content, str(path)), str(path))
    raise ConfigError(
        "the file is no profile: it has neither step_time nor measurements",
        where=str(path),
        hint="sundog calibrate --from makes a profile of measurements or of results of vllm bench serve",
    )


def profile_from(paths: Sequence[Path], max_step_tokens: int | None) -> Profile:
    """Return the profile that fits one measurement file, or one or more results of `vllm bench serve`. ConfigError for
    other files, and for measurements that cannot tell a coefficient."""
    from sundog.measured.measurement_file import profile_of_measurements
    from sundog.measured.vllm_benchmark import HOW, is_serve_result, is_throughput_result, measurements_of, read_results

    results = [(str(path), content) for path in paths for content in read_results(path)]
    for where, content in results:
        if is_throughput_result(content):
            raise ConfigError("the result does not tell what ran together", where=where, hint=f"measure with {HOW}")
    if results and all(is_serve_result(content) for _, content in results):
        return profile_of_measurements(measurements_of(results, max_step_tokens), results[0][0])
    if len(paths) > 1:
        other = next((where for where, content in results if not is_serve_result(content)), str(paths[0]))
        raise ConfigError("only results of vllm bench serve are fitted together", where=other, hint="give one file")
    if max_step_tokens is not None:
        raise ConfigError("--max-step-tokens is for results of vllm bench serve", hint="the file has max_step_tokens")
    return read_profile_file(paths[0])


def save_named_profile(folder: Path, name: str, profile: Profile) -> Path:
    """Write a profile under a name; its path. ConfigError for a name that is no name or that a shipped one has."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' is no name of a profile", hint="use lower-case letters, digits, '-', '.' and '_'")
    if name in shipped_names():
        raise ConfigError(f"a shipped profile is called '{name}'", hint="choose another --name")
    path = _own_path(folder, name)
    write_profile(path, profile.to_json())
    return path


def _option(name: str) -> str:
    return f"--engine-profile {name}"


def _own_path(folder: Path, name: str) -> Path:
    return folder / "profiles" / "named" / f"{name}.json"


def with_profile(pool: EnginePool, name: str, profile: Profile) -> EnginePool:
    """Return the pool as if its replicas were the machine of a named profile. ConfigError where it lets in more
    requests than were ever measured together."""
    limit = profile.limits.max_decode_requests
    if pool.max_concurrency > limit:
        raise ConfigError(
            f"the profile '{name}' is of at most {limit:,} requests at once, and the engine '{pool.engine}' lets in"
            f" {pool.max_concurrency:,}",
            where=_option(name),
            hint=f"set max_concurrency: {limit} in the engine's block, or measure larger batches",
        )
    limits = replace(profile.limits, max_decode_requests=pool.max_concurrency)
    is_derived = pool.max_tokens_in_flight == pool.max_kv_tokens
    return replace(
        pool,
        profile=replace(profile, limits=limits),
        max_kv_tokens=profile.max_kv_tokens,
        max_tokens_in_flight=profile.max_kv_tokens if is_derived else pool.max_tokens_in_flight,
    )


def require_room(pool: EnginePool, name: str, longest_tokens: int) -> None:
    """Raise a ConfigError where the longest prompt and answer do not fit into the KV cache of a pool with the named
    profile."""
    if pool.max_kv_tokens is not None and longest_tokens > pool.max_kv_tokens:
        raise ConfigError(
            f"the profile '{name}' has a KV cache of {pool.max_kv_tokens:,} tokens, and a prompt with its answer may"
            f" have {longest_tokens:,}",
            where=_option(name),
            hint=f"take a profile with a larger cache, or shorter prompts on the engine '{pool.engine}'",
        )
