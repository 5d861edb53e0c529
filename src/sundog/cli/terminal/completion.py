"""This module completes words for the shell: run ids, flow files, and names of policies, rules, engines, profiles,
models, keys and tenants.

Owns the candidates. Never fails, and asks no network: where something cannot be read there is nothing to complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from sundog.config import local_state

Complete = Callable[[typer.Context, str], list[str]]
FLOW_SUFFIXES = {".yaml", ".yml"}


def _completing(candidates: Callable[[typer.Context, str], Iterable[str]]) -> Complete:
    """Return the candidates; typer takes those of them that begin with what is written."""

    @wraps(candidates)
    def complete(context: typer.Context, incomplete: str) -> list[str]:
        found: list[str] = []
        # A traceback in the middle of a line that is being typed helps nobody; what was found before it does.
        with suppress(Exception):
            for candidate in candidates(context, incomplete):
                found.append(candidate)
        return found

    complete.__annotations__ = {"context": typer.Context, "incomplete": str}
    return complete


@_completing
def flow_files(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield flow files, and the folders that may hold some."""
    folder = incomplete.rpartition("/")[0]
    for path in sorted(Path(folder or ("/" if incomplete.startswith("/") else ".")).iterdir()):
        if path.name.startswith("."):
            continue
        name = f"{folder}/{path.name}" if "/" in incomplete else path.name
        if path.is_dir():
            yield f"{name}/"
        elif path.suffix in FLOW_SUFFIXES:
            yield name


@_completing
def run_ids(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield the runs of the state folder, newest first, and `last`."""
    from sundog.runtime.kept_runs import run_ids_of

    if folder := local_state(context.params.get("state")):
        yield from run_ids_of(folder)
    yield "last"


@_completing
def policies(context: typer.Context, incomplete: str) -> Iterable[str]:
    from sundog.sched.policy import POLICIES

    return POLICIES.names()


@_completing
def rules(context: typer.Context, incomplete: str) -> Iterable[str]:
    from sundog.optimizer.rules.catalog import RULE_NAMES

    return RULE_NAMES


@_completing
def engines(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the engines of the flow that is named before."""
    return list(_flow(context).get("engines", {}))


@_completing
def engine_counts(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the engines of the flow that is named before, as `ENGINE=`."""
    return [f"{name}=" for name in _flow(context).get("engines", {})]


@_completing
def worker_counts(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the groups of workers of the flow that is named before, as `GROUP=`."""
    return [f"{name}=" for name in _flow(context).get("workers", {})]


@_completing
def engine_profiles(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield the names of profiles, and `ENGINE=` of the flow that is named before; after that, `ENGINE=NAME`."""
    from sundog.engines.embedded.models import cache_folder
    from sundog.measured.named_profiles import own_names, shipped_names

    engine, equals, _ = incomplete.partition("=")
    for name in (*shipped_names(), *own_names(cache_folder())):
        yield f"{engine}={name}" if equals else name
    if not equals:
        # Last: a flow that is not there or not right takes nothing from the names above.
        yield from (f"{name}=" for name in _flow(context).get("engines", {}))


@_completing
def inputs(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the inputs of the flow that is named before, as `NAME=`."""
    return [f"{name}=" for name in _flow(context).get("inputs", {})]


@_completing
def models(context: typer.Context, incomplete: str) -> Iterable[str]:
    from sundog.engines.embedded.models import CATALOG

    return CATALOG


@_completing
def key_names(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield the names of keys that can be revoked."""
    from sundog.access.api_keys import APIKeys
    from sundog.store.schema import STORE_FILE
    from sundog.store.store import Store

    folder = local_state(context.params.get("state"))
    if folder is not None and (folder / STORE_FILE).exists():
        store = Store(folder)
        try:
            yield from (record.name for record in APIKeys(store).all() if record.revoked_at is None)
        finally:
            store.close()


@_completing
def tenants(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield the tenants that have keys."""
    from sundog.access.api_keys import APIKeys
    from sundog.store.schema import STORE_FILE
    from sundog.store.store import Store

    folder = local_state(context.params.get("state"))
    if folder is not None and (folder / STORE_FILE).exists():
        store = Store(folder)
        try:
            yield from sorted({record.tenant for record in APIKeys(store).all()})
        finally:
            store.close()


@_completing
def objectives(context: typer.Context, incomplete: str) -> Iterable[str]:
    return ("makespan", "mean-completion", "cost")


@_completing
def placements(context: typer.Context, incomplete: str) -> Iterable[str]:
    return ("auto", "least", "round_robin", "operator_wise", "min_switch", "heft", "halo_dp", "partition")


def _flow(context: typer.Context) -> dict[str, Any]:
    """Return the flow file as plain data: it need not be right to be completed from."""
    from sundog.flow.positions import read_document

    # Where an option still lacks its value, what stands before it has not been given to the parameters yet.
    path = Path(context.params.get("flow") or context.args[0])
    data: dict[str, Any] = read_document(path.read_text(encoding="utf-8"), str(path)).data
    return data
