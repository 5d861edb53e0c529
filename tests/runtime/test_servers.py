"""Servers that sundog starts: their processes and records."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import ConfigError, EngineUnavailable
from sundog.ir.logical import EngineBlock
from sundog.secrets import Secrets
from sundog.servers import records, servers
from sundog.servers.records import ServerRecord, processes_of
from sundog.servers.run_servers import RunServers
from sundog.servers.servers import Servers, Site, sites_of
from sundog.servers.status import statuses_of
from tests.engines.fake_vllm import MODEL, write_fake_vllm


class Yard:
    """Servers of one folder, with the fake as interpreter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = Servers(folder / "state", Secrets({}))
        self.python = write_fake_vllm(folder)

    def block(self, **options: Any) -> EngineBlock:
        environment = {"FAKE_FOLDER": str(self.folder)}
        known = {"model": MODEL, "device": "cpu", "python": str(self.python), "environment": environment}
        return EngineBlock("local", "vllm", {**known, **options})

    def sites(self, **options: Any) -> list[Site]:
        return sites_of(self.block(**options))

    def up(self, sites: list[Site], **given: Any) -> list[ServerRecord]:
        return asyncio.run(self.servers.up(sites, **given))

    def down(self) -> None:
        asyncio.run(self.servers.down(self.servers.records.all()))

    @property
    def num_starts(self) -> int:
        path = self.folder / "starts"
        return len(path.read_text().split()) if path.exists() else 0


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setattr(servers, "POLL_S", 0.01)
    monkeypatch.setattr(servers, "TERM_TIMEOUT_S", 0.2)
    found = Yard(tmp_path)
    yield found
    found.down()


def test_up_starts_each_server_once(yard: Yard) -> None:
    sites = yard.sites(replicas=2)
    first = yard.up(sites)
    assert len({record.pid for record in first}) == len({record.base_url for record in first}) == 2
    assert yard.up(sites) == first
    assert yard.num_starts == 2
    assert [yard.servers.find(site) for site in sites] == first


def test_up_in_two_processes_at_once_starts_one(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is about to start a server waits a moment for another one who is: nobody comes."""
    both = threading.Barrier(2)

    def wait_for_the_other() -> int:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.1)
        return records.free_port()

    monkeypatch.setattr(servers, "free_port", wait_for_the_other)
    sites = yard.sites()
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: yard.up(sites), range(2))
    assert one == other
    assert yard.num_starts == 1


def test_equal_servers_are_those_of_one_command(yard: Yard) -> None:
    (one,) = yard.up(yard.sites())
    (same,) = yard.up(yard.sites(max_tokens_in_flight=9, timeout_s=3.0))
    (other,) = yard.up(yard.sites(arguments={"max_model_len": 64}))
    assert one == same != other


def test_down_ends_all_processes_of_a_server_that_ignores_it(yard: Yard) -> None:
    (yard.folder / "is-stubborn").touch()
    (record,) = yard.up(yard.sites())
    assert len(processes_of(record)) == 2
    yard.down()
    assert processes_of(record) == []
    assert yard.servers.records.all() == []


def test_children_are_found_before_anybody_has_noted_that_the_first_process_ended(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    (yard.folder / "is-stubborn").touch()
    (record,) = yard.up(yard.sites())
    first, child = processes_of(record)
    with monkeypatch.context() as patched:
        patched.setattr(os, "waitpid", lambda pid, options: (0, 0))
        os.kill(first, signal.SIGKILL)
        while first in processes_of(record):
            pass
        assert processes_of(record) == [child]


def test_children_are_found_while_the_first_process_is_ending(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its last instruction and its end a process has a session and an empty environment."""
    (yard.folder / "is-stubborn").touch()
    (record,) = yard.up(yard.sites())
    first, child = processes_of(record)
    path_of = records._environ_path
    # The child has written its title over its environment, as vLLM's does.
    (yard.folder / "title").write_bytes(b"a title")
    (yard.folder / "nothing").touch()
    instead = {first: yard.folder / "nothing", child: yard.folder / "title"}
    with monkeypatch.context() as patched:
        patched.setattr(records, "_environ_path", lambda pid: instead.get(pid) or path_of(pid))
        assert child in processes_of(record)


def test_who_is_killed_between_two_writes_leaves_no_orphan(yard: Yard) -> None:
    """The process is there, its number was not written yet: it is found by its token."""
    (site,) = yard.sites()
    (record,) = yard.up([site])
    yard.servers.records.put(replace(record, pid=None))
    assert yard.servers.find(site) is not None
    assert yard.up([site])[0].base_url == record.base_url
    yard.down()
    assert processes_of(record) == []


def test_a_server_that_was_killed_is_started_again(yard: Yard) -> None:
    (site,) = yard.sites()
    (record,) = yard.up([site])
    assert record.pid is not None
    os.kill(record.pid, signal.SIGKILL)
    while processes_of(record):
        pass
    assert yard.servers.find(site) is None
    assert [one.state for one in asyncio.run(statuses_of([record]))] == ["gone"]
    (again,) = yard.up([site])
    assert again.token != record.token
    assert yard.num_starts == 2


def test_a_process_that_executes_a_program_is_alive(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is empty for a moment; that of another process is not."""
    (record,) = yard.up(yard.sites())
    with monkeypatch.context() as patch:
        patch.setattr(records, "_environment", lambda pid: [b""])
        assert records.is_alive(record)
        patch.setattr(records, "_environment", lambda pid: [b"HOME=/"])
        assert not records.is_alive(record)


def test_no_other_process_is_taken_for_a_server(yard: Yard) -> None:
    (site,) = yard.sites()
    (record,) = yard.up([site])
    yard.down()
    yard.servers.records.put(replace(record, pid=os.getpid()))
    assert yard.servers.find(site) is None


def test_a_server_that_ends_at_its_start_says_why(yard: Yard) -> None:
    (yard.folder / "refuses").touch()
    with pytest.raises(EngineUnavailable, match="local/0 ended before it was ready") as caught:
        yard.up(yard.sites())
    assert caught.value.hint == "no memory left"


def test_a_restarted_server_keeps_its_address(yard: Yard) -> None:
    (site,) = yard.sites()
    (record,) = yard.up([site])

    async def restart() -> ServerRecord:
        again = await yard.servers.restart(site, record)
        await yard.servers.wait_ready(site, again)
        return again

    again = asyncio.run(restart())
    assert again.base_url == record.base_url
    assert again.pid != record.pid
    assert processes_of(record) == []
    assert (yard.folder / "starts").read_text().split() == [str(record.port)] * 2


def test_the_status_tells_the_load(yard: Yard) -> None:
    (record,) = yard.up(yard.sites())
    (status,) = asyncio.run(statuses_of([record]))
    assert (status.state, status.to_json()["load"]["num_running"]) == ("ready", 3)


def test_a_run_stops_what_it_has_started_and_nothing_else(yard: Yard) -> None:
    (stays,) = yard.up(yard.sites(arguments={"max_model_len": 64}))

    async def run() -> list[str]:
        ours = RunServers(yard.servers)
        blocks = [yard.block(start=True), replace(yard.block(arguments={"max_model_len": 64}), name="other")]
        async with ours.serving(blocks):
            assert ours.attach("local/1") is None
            return [name for name in ("local/0", "other/0") if ours.attach(name) is not None]

    assert asyncio.run(run()) == ["local/0", "other/0"]
    assert [record.key for record in yard.servers.records.all()] == [stays.key]
    assert processes_of(stays)


def test_a_run_takes_over_what_a_killed_run_has_left(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    (left,) = yard.up(yard.sites(start=True), owner_pid=os.getpid())
    monkeypatch.setattr(servers, "is_owner_gone", lambda record: True)

    async def run() -> None:
        async with RunServers(yard.servers).serving([yard.block(start=True)]):
            assert processes_of(left)

    asyncio.run(run())
    assert processes_of(left) == []
    assert yard.num_starts == 1


def test_engine_up_keeps_what_a_run_has_started(yard: Yard) -> None:
    sites = yard.sites(start=True)
    yard.up(sites, owner_pid=os.getpid())
    assert yard.up(sites)[0].owner_pid is None


def test_an_owner_is_gone_when_its_process_is(yard: Yard) -> None:
    (record,) = yard.up(yard.sites())
    assert not records.is_owner_gone(record)
    assert not records.is_owner_gone(replace(record, owner_pid=os.getpid()))
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    assert records.is_owner_gone(replace(record, owner_pid=pid))


def test_servers_that_are_down_are_the_users_to_start(yard: Yard) -> None:
    with pytest.raises(ConfigError, match="2 of 2 servers down") as caught:
        asyncio.run(RunServers(yard.servers).up([yard.block(replicas=2)]))
    assert "sundog engine up FLOW --engine local" in str(caught.value.hint)
    assert yard.num_starts == 0


def test_servers_are_not_started_on_workers(yard: Yard) -> None:
    with pytest.raises(ConfigError, match="cannot be started on workers"):
        sites_of(replace(yard.block(), workers="gpu"))
