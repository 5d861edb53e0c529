"""How a process finds its Ray cluster.

Owns the check that Ray is installed and reached, and what to do where it is not. Never starts an actor.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from sundog.errors import ConfigError, error_text

ANSWER_S = 5.0
"""A head that takes no connection for so long is not there; Ray itself would ask for minutes."""
RAY_ENDS_AFTER_S = 180
"""A process that has missed its head for so long is ended by Ray, without a word of the run. The run ends itself before
that (`ray.head`)."""


def require_ray() -> None:
    """ConfigError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--on ray needs Ray, which is not installed", hint="pip install 'sundog[ray]'")


def chosen_address(address: str | None) -> str | None:
    """Return the address that is meant: the one given, else that of RAY_ADDRESS, None for Ray's own choice."""
    return address or os.environ.get("RAY_ADDRESS") or None


def takes_jobs(address: str | None) -> bool:
    """Return whether an address is that of a job server: there the command is sent, and this process only follows."""
    return address is not None and address.startswith(("http://", "https://"))


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be a driver of the cluster at an address (HOST:PORT, `auto`, `local`; None for Ray's own choice: the Ray of this
    machine, which is started where there is none) until the block ends. A process that is connected already stays as
    it is. ConfigError where Ray is not installed, where no cluster answers, and where the process is connected to
    another one."""
    require_ray()
    # Ray reads it as it is imported.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(RAY_ENDS_AFTER_S))
    import ray

    _check_form(address)
    if ray.is_initialized():
        now = ray.get_runtime_context().gcs_address
        if address not in (None, "auto", now):
            raise ConfigError(
                f"this process is connected to another Ray, at {now}", hint="call ray.shutdown(), or name no address"
            )
        yield
        return
    _check_answer(address)
    try:
        with _quiet():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "of this machine" if address is None else f"at {address}"
        raise ConfigError(
            f"cannot connect to the Ray {where}: {error_text(error)}",
            hint="start one with `ray start --head`, or name another with --address or RAY_ADDRESS",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Ray say no more than its errors while it connects."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_form(address: str | None) -> None:
    """ConfigError for an address that no driver can use."""
    if takes_jobs(address):
        raise ConfigError(
            f"{address} is a job server, which takes commands and no drivers",
            hint=f"submit the run: sundog run FLOW --on ray --address {address}; or name HOST:6379 on a node",
        )
    if address is not None and address not in ("auto", "local") and head_place(address) is None:
        raise ConfigError(
            f"'{address}' is no address of a Ray cluster",
            hint="write HOST:PORT on a node of the cluster, or http://HOST:8265 to submit a job from elsewhere",
        )


def _check_answer(address: str | None) -> None:
    """ConfigError for an address at which nobody listens."""
    place = None if address is None else head_place(address)
    if place is None:
        return
    try:
        socket.create_connection(place, ANSWER_S).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray answers at {address}: {error.strerror or error}",
            hint="start one with `ray start --head`, or name another with --address or RAY_ADDRESS",
        ) from error


def head_place(address: str) -> tuple[str, int] | None:
    """Return the host and port of an address; None for another one."""
    host, _, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() and "://" not in address else None
