"""Commands on a state at a URL: which of them ask the storage, what they change there, what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sundog as sd
from sundog import config
from sundog.errors import AnswersAwaited, ConfigError, UserError
from sundog.store.runs import RunList
from sundog.store.segments import cache
from sundog.store.segments.storage import ObjectStorage
from sundog.store.store import Store
from tests.cli.flows import sundog
from tests.cli.test_completion import offered
from tests.store.segments.storages import opened

WITH_PEOPLE = """
name: approvals
inputs: {claims: claims.csv}
nodes:
  approve: {human: {question: "Pay {{ row.name }}?"}}
outputs: {name: "{{ row.name }}", answer: "{{ approve.text }}"}
"""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    on_machine(monkeypatch, tmp_path / "one")
    return f"file://{tmp_path}/shared"


def on_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From here on this process has the disk of another machine."""
    monkeypatch.setenv("SUNDOG_CACHE", str(folder))
    monkeypatch.setattr(cache, "_STATES", {})


def never(url: str, caches: Path) -> Path:
    raise AssertionError("the storage is asked")


@pytest.mark.parametrize(
    "arguments", [("runs", "--state", "folder"), ("model", "list"), ("explain", "nowhere.yaml", "--state", "folder")]
)
def test_a_command_asks_no_storage_but_that_of_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SUNDOG_STATE", "s3://nowhere/state")
    monkeypatch.setattr(cache, "open_state", never)
    ran = sundog(tmp_path, *arguments)
    assert ran.exit_code == (2 if "nowhere.yaml" in arguments else 0), ran.stderr


@pytest.mark.parametrize("line", ["sundog show l", "sundog keys revoke k", "sundog keys limit t"])
def test_words_are_completed_without_the_storage(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(cache, "open_state", lambda url, _: asked.append(url))
    monkeypatch.setenv("SUNDOG_STATE", "s3://nowhere/state")
    assert offered(tmp_path, line) == (["last"] if "show" in line else [])
    assert not asked


@pytest.mark.parametrize("state", [Path("s3://bucket/state"), "gs:/bucket"])
def test_a_url_that_lost_a_slash_makes_no_folder(state: Path | str) -> None:
    with pytest.raises(ConfigError, match="write it as text, with ://"):
        config.read_config(state)


def test_a_state_is_called_by_its_url(url: str, tmp_path: Path) -> None:
    assert sundog(tmp_path, "runs", "--state", url).stdout == f"no runs in {url}\n"
    assert f"there is no run 'x' in {url}" in sundog(tmp_path, "show", "x", "--state", url).stderr


def test_a_question_is_answered_wherever_its_run_was_made(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "claims.csv").write_text("name\nann\nbob\n")
    (tmp_path / "flow.yaml").write_text(WITH_PEOPLE)
    flow = sd.load(tmp_path / "flow.yaml")
    with pytest.raises(AnswersAwaited):
        flow.run(state=url)
    on_machine(monkeypatch, tmp_path / "other")
    for row, text in (("0", "yes"), ("1", "no")):
        ran = sundog(tmp_path, "answer", "last", "--state", url, "--row", row, "--text", text)
        assert ran.exit_code == 0, ran.stderr
    on_machine(monkeypatch, tmp_path / "one")
    assert [row["answer"] for row in flow.run(state=url)] == ["yes", "no"]
    assert json.loads(sundog(tmp_path, "runs", "--state", url, "--json").stdout)[0]["state"] == "finished"


def test_a_run_at_work_is_not_answered(url: str, tmp_path: Path) -> None:
    one, other = (opened(ObjectStorage(url), tmp_path / name) for name in ("a", "b"))
    store, others = Store(one.folder), Store(other.folder)
    runs = RunList(store, one.folder)
    with runs.lock(b"command"):
        run_id = runs.start(b"command", b"identity", "flow", "", 1, is_fresh=False).run_id
    with runs.lock(b"command"):
        other.catch_up()
        with pytest.raises(UserError, match="another process is working"):
            RunList(others, other.folder).changing(run_id).__enter__()
    store.close()
    others.close()


def test_the_last_run_is_the_last_one_on_each_machine(url: str, tmp_path: Path) -> None:
    """The order of the logs is that of their names, which says nothing."""
    one = opened(ObjectStorage(url), tmp_path / "a")
    store = Store(one.folder)
    runs = RunList(store, one.folder)
    begun = []
    for command in (b"c", b"a", b"b"):
        with runs.lock(command):
            begun.append(runs.start(command, b"identity", "flow", "", 1, is_fresh=False).run_id)
    store.close()
    other = opened(ObjectStorage(url), tmp_path / "b")
    others = Store(other.folder)
    assert [record.run_id for record in RunList(others, other.folder).all()] == begun[::-1]
    others.close()
