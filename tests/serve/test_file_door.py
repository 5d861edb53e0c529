"""The door of files, as the unchanged `openai` client uses it, and what it refuses."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from sundog.serve.app import open_app
from sundog.serve.batches import shelf
from sundog.serve.batches.quota import FileQuota
from sundog.serve.wire.errors import Refusal
from sundog.store.files import FileBook, KeptFile
from sundog.store.store import Store
from tests.serve.asking import Heard, ask
from tests.serve.keyed import added
from tests.serve.running import Running, running
from tests.serve.test_keys_at_doors import MODELS

LINES = b'{"custom_id": "one"}\n' * 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("files"), (), MODELS) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client


def client_of(server: Running, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key=key, max_retries=0)


def sent(client: openai.OpenAI, content: bytes = LINES, name: str = "lines.jsonl", **more: Any) -> Any:
    return client.files.create(file=(name, io.BytesIO(content)), purpose="batch", **more)


def test_a_file_is_taken_shown_read_and_deleted(client: openai.OpenAI) -> None:
    file = sent(client)
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(LINES), "lines.jsonl", "batch")
    assert file.status == "processed"
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == LINES
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_bytes_that_look_like_a_form_are_kept_as_they_are(client: openai.OpenAI, server: Running) -> None:
    content = bytes(range(256)) * 20_000 + b"\r\n--almost\r\n\r\n"
    file = sent(client, content, "naïve.jsonl")
    assert file.filename == "naïve.jsonl"
    assert client.files.content(file.id).read() == content
    kept = server.serving.config.state_dir / "files" / file.id
    assert kept.read_bytes() == content
    assert kept.stat().st_mode & 0o077 == 0, "nobody else on the machine reads it"


def test_lists_are_read_page_by_page(tmp_path: Path) -> None:
    with running(tmp_path, (), MODELS) as server, client_of(server) as client:
        ids = [sent(client, name=f"{number}.jsonl").id for number in range(5)]
        assert [file.id for file in client.files.list()] == ids[::-1]
        assert [file.id for file in client.files.list(order="asc", limit=2)] == ids
        page = client.files.list(limit=2, after=ids[3])
        assert ([file.id for file in page.data], page.has_more) == ([ids[2], ids[1]], True)
        assert list(client.files.list(purpose="fine-tune")) == []


def test_a_file_is_gone_when_its_time_is_over(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, server: Running
) -> None:
    file = sent(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    monkeypatch.setattr("sundog.serve.doors.files.time", SimpleNamespace(time=lambda: time.time() + 3601))
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_files_outlive_the_server(tmp_path: Path) -> None:
    with running(tmp_path, (), MODELS) as server, client_of(server) as client:
        file = sent(client)
    with running(tmp_path, (), MODELS) as server, client_of(server) as client:
        assert client.files.content(file.id).read() == LINES


def test_a_key_sees_its_own_files_only(tmp_path: Path) -> None:
    ours, theirs = added(tmp_path, "ours"), added(tmp_path, "theirs")
    with running(tmp_path, (), MODELS) as server, client_of(server, ours) as client:
        file = sent(client)
        with client_of(server, theirs) as other:
            assert list(other.files.list()) == []
            for refused in (other.files.retrieve, other.files.content, other.files.delete):
                with pytest.raises(openai.NotFoundError):
                    refused(file.id)
        assert client.files.content(file.id).read() == LINES


def form(*parts: tuple[str, str], file: bytes | None = LINES, boundary: str = "x", end: str = "--x--\r\n") -> bytes:
    pieces = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in parts]
    body = "".join(pieces).encode()
    if file is not None:
        head = '--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        body += head.encode() + file + b"\r\n"
    return body + end.encode()


BATCH = ("purpose", "batch")
FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("body", "headers", "part"),
    [
        (b"{}", {"content-type": "application/json"}, "multipart/form-data"),
        (b"--x--", {"content-type": "multipart/form-data"}, "multipart/form-data"),
        (b"--x--", {"content-type": f"multipart/form-data; boundary={'x' * 300}"}, "cannot be read"),
        (b"nothing", FORM, "cannot be read"),
        (form(BATCH, end=""), FORM, "ends before"),
        (form(BATCH, file=None), FORM, "file"),
        (form(), FORM, "purpose"),
        (form(("purpose", "fine-tune")), FORM, "/v1/batches alone"),
        (form(BATCH, ("porpoise", "x")), FORM, "no such field"),
        (form(BATCH, ("expires_after[seconds]", "3600")), FORM, "anchor"),
        (form(BATCH, ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "1")), FORM, "seconds"),
        (form(BATCH, ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "x")), FORM, "seconds"),
        (form(("purpose", "y" * 70_000)), FORM, "fields of a form"),
        (form(BATCH, end="") + form(), FORM, "twice"),
        (form(BATCH, *((f"field-{number}", "") for number in range(70))), FORM, "more than 64 parts"),
    ],
)
def test_a_form_that_is_wrong_is_refused(server: Running, body: bytes, headers: dict[str, str], part: str) -> None:
    before = set(kept_files(server))
    heard = ask(server.address, "POST", "/v1/files", body, headers)
    assert heard.status == 400, heard.body
    assert part in heard.body["error"]["message"]
    assert set(kept_files(server)) == before, "nothing is left of it"


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf.FileShelf.__init__, "__defaults__", (1000,))
    with running(tmp_path, (), MODELS) as server:
        heard = ask(server.address, "POST", "/v1/files", form(BATCH, file=b"x" * 1001), FORM)
        assert (heard.status, heard.body["error"]["code"]) == (413, "file_too_large")
        assert "1,000 bytes" in heard.body["error"]["message"]
        assert kept_files(server) == []
        assert ask(server.address, "POST", "/v1/files", form(BATCH, file=b"x" * 1000), FORM).status == 200


@pytest.mark.parametrize("path", ["?limit=0", "?limit=x", "?order=up", "?after=a/b"])
def test_lists_that_are_asked_for_wrongly_are_refused(server: Running, path: str) -> None:
    # The client of Python's library sends the whole target.
    heard: Heard = ask(server.address, "GET", f"/v1/files{path}")
    assert heard.status == 400
    assert heard.body["error"]["param"] in ("limit", "order", "after")


def kept_files(server: Running) -> list[str]:
    folder = server.serving.config.state_dir / "files"
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def test_the_files_of_a_key_have_a_bound_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_app.__wrapped__.__kwdefaults__, "max_kept_bytes", 1000)  # type: ignore[attr-defined]  # its default
    keys = [{"x-api-key": added(tmp_path, name)} for name in ("ours", "theirs")]

    def send(server: Running, num_bytes: int, key: dict[str, str]) -> Heard:
        return ask(server.address, "POST", "/v1/files", form(BATCH, file=b"x" * num_bytes), FORM | key)

    with running(tmp_path, (), MODELS) as server:
        first = send(server, 600, keys[0])
        assert first.status == 200
        heard = send(server, 401, keys[0])
        assert (heard.status, heard.body["error"]["code"]) == (413, "file_quota_exceeded")
        assert "600 of 1,000 bytes" in heard.body["error"]["message"]
        assert "--file-quota" in heard.body["error"]["message"]
        assert heard.headers["x-should-retry"] == "false"
        assert len(kept_files(server)) == 1, "nothing is left of it"
        assert send(server, 1000, keys[1]).status == 200, "another key has files of its own"
        assert send(server, 400, keys[0]).status == 200
    with running(tmp_path, (), MODELS) as server:
        assert send(server, 1, keys[0]).status == 413
        assert ask(server.address, "DELETE", f"/v1/files/{first.body['id']}", None, keys[0]).status == 200
        assert send(server, 600, keys[0]).status == 200


def test_files_that_come_at_once_have_no_more_room_together(tmp_path: Path) -> None:
    store = Store(tmp_path)
    quota = FileQuota(FileBook(store), 1000)
    with quota.coming("", "one", 0) as one, quota.coming("", "two", 0) as two:
        one.take(700)
        two.take(300)
        with pytest.raises(Refusal, match="have 700 of 1,000 bytes"):
            two.take(1)
        one.is_kept = True
        with pytest.raises(Refusal), quota.coming("", "more", 1):
            """It is refused before its first byte, by what its client says."""
    with quota.coming("", "three", 1000) as three:
        three.take(1000)
    store.close()


def test_what_is_deleted_makes_room_while_another_file_comes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    book = FileBook(store)

    async def main() -> None:
        store.open_writer()
        quota = FileQuota(book, 1000)
        await book.put(KeptFile("file-1", "", "batch", "a", 600, 1.0, None))
        with quota.coming("", "slow", 0) as slow:
            slow.take(300)
            await book.delete("file-1")
            with quota.coming("", "quick", 700) as quick:
                quick.take(700)
            with pytest.raises(Refusal, match="have 300 of 1,000 bytes"), quota.coming("", "more", 701):
                """One that comes now counts all the same."""

    asyncio.run(main())
    store.close()


def test_a_file_that_is_told_to_be_too_long_is_refused_before_it_comes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(Refusal) as refused, FileQuota(FileBook(store), 1000).coming("", "one", 1001):
        """Nothing of it is read."""
    assert (refused.value.status, refused.value.code) == (413, "file_quota_exceeded")
    store.close()
