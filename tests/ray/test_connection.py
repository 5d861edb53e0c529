"""How a run finds its cluster, and what it says where there is none. No cluster is started here."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

from sundog.errors import ConfigError
from sundog.ray.connection import chosen_address, connected, takes_jobs
from sundog.ray.on_ray import work_on_ray
from sundog.ray.options import RayOptions

installed = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'sundog[ray]'"
)


def test_the_address_given_comes_before_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert chosen_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert chosen_address(None) == "head:6379"
    assert chosen_address("auto") == "auto"


def test_job_servers_have_addresses_of_http() -> None:
    assert takes_jobs("http://head:8265")
    assert takes_jobs("https://head")
    assert not takes_jobs("head:6379")
    assert not takes_jobs(None)


def test_without_ray_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'sundog\[ray\]'"), connected(None):
        pass


@installed
def test_nobody_at_an_address_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"no Ray answers at {address}.*\n.*ray start --head"), connected(address):
            pass


@installed
@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", ":6379"])
def test_what_is_no_address_of_a_cluster_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address of a Ray cluster.*\n.*HOST:PORT"), connected(address):
        pass


@installed
def test_a_driver_does_not_connect_to_a_job_server() -> None:
    with pytest.raises(ConfigError, match="takes commands and no drivers"), connected("http://head:8265"):
        pass


@installed
def test_a_state_of_this_machine_alone_is_refused_before_anything_connects(tmp_path: Path) -> None:
    options = RayOptions("nowhere:1")
    with pytest.raises(ConfigError, match="is a folder of this machine"), work_on_ray(options, tmp_path, tmp_path):
        pass
