"""Pictures and documents in messages: what a server is sent, what is one call, and what fails its row."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import sundog as sd
from sundog.engines.base import Message
from sundog.engines.message_parts import ImagePart, UnreadPart
from sundog.errors import OperatorError
from sundog.operators import message_files
from tests.engines.server import MODEL, Server, running_server
from tests.operators.pictures import jpeg, png

FLOW = """
name: photos
engines:
  seen: {kind: openai, model: MODEL, base_url: "URL"}
inputs: {rows: rows.jsonl}
nodes:
  look:
    llm:
      engine: seen
      messages:
        - role: user
          content: PARTS
outputs: {id: "{{ row.id }}", text: "{{ look.text }}"}
"""
IMAGE = '[{text: "What is it, {{ row.what or 1 }}?"}, {image: "{{ row.photo }}", detail: low}]'
PDF = b"%PDF-1.7 a report"


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def run(folder: Path, server: Server, *sources: Any, parts: str = IMAGE) -> Any:
    """Return the rows for sources of pictures, in the order of their ids."""
    rows = (json.dumps({"id": number, "photo": source, "what": None}) for number, source in enumerate(sources))
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    flow = FLOW.replace("MODEL", MODEL).replace("URL", server.base_url).replace("PARTS", parts)
    (folder / "flow.yaml").write_text(flow)
    return sd.run(folder / "flow.yaml", state=folder / "state")


def sent(server: Server) -> list[Any]:
    """Return the parts that came, of each question."""
    return [exchange.body["messages"][0]["content"] for exchange in server.exchanges if exchange.body]


def test_a_server_is_sent_the_bytes_of_a_picture(tmp_path: Path, server: Server) -> None:
    (tmp_path / "a.png").write_bytes(png())
    result = run(tmp_path, server, "a.png")
    assert len(result) == 1
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    text = {"type": "text", "text": "What is it, 1?"}
    assert sent(server) == [[text, {"type": "image_url", "image_url": {"url": url, "detail": "low"}}]]


def test_a_picture_is_one_call_wherever_it_comes_from(tmp_path: Path, server: Server) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "below" / "b.png").write_bytes(png())
    encoded = base64.b64encode(png()).decode()
    sources = ["a.png", "below/b.png", encoded, f"data:image/jpeg;base64,{encoded}"]
    assert len(run(tmp_path, server, *sources)) == 4
    assert len(sent(server)) == 1
    (tmp_path / "a.png").write_bytes(png(rest=b"other"))
    assert len(run(tmp_path, server, *sources, "a.png")) == 5
    assert len(sent(server)) == 2, "another picture under the old path is another call"


def test_bytes_of_a_column_and_addresses(tmp_path: Path, server: Server) -> None:
    photo = base64.b64encode(jpeg(30, 20)).decode()
    assert photo.startswith("/9j/"), "as paths do"
    lines = "\n".join(photo[start : start + 76] for start in range(0, len(photo), 76))
    others = (f"DATA:text/plain;BASE64,{photo}", f" data:image/jpeg;base64,{lines}\n", lines)
    assert len(run(tmp_path, server, photo, " HTTPS://example.org/a.png ", *others)) == 5
    urls = sorted(parts[1]["image_url"]["url"] for parts in sent(server))
    assert urls == [f"data:image/jpeg;base64,{photo}", "https://example.org/a.png"]


def test_a_column_of_bytes_holds_pictures(tmp_path: Path, server: Server) -> None:
    run(tmp_path, server, "a.png")
    server.exchanges.clear()
    with duckdb.connect() as connection:
        connection.execute("create table t as select 1 as id, 2 as what, $1::blob as photo", [png()])
        connection.execute(f"copy t to '{tmp_path / 'rows.parquet'}'")
    flow = (tmp_path / "flow.yaml").read_text().replace("rows.jsonl", "rows.parquet")
    (tmp_path / "flow.yaml").write_text(flow)
    explained = sd.explain(tmp_path / "flow.yaml", state=tmp_path / "state")
    assert len(sd.run(tmp_path / "flow.yaml", state=tmp_path / "state")) == 1
    (parts,) = sent(server)
    assert parts[1]["image_url"]["url"].endswith(base64.b64encode(png()).decode())
    assert "look" in str(explained)


def test_a_document_goes_out_as_a_file(tmp_path: Path, server: Server) -> None:
    (tmp_path / "a.pdf").write_bytes(PDF)
    (tmp_path / "b.pdf").write_bytes(PDF)
    assert len(run(tmp_path, server, "a.pdf", "b.pdf", parts='[{file: "{{ row.photo }}"}, {text: Sum it up.}]')) == 2
    data = f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}"
    file = {"type": "file", "file": {"filename": "document.pdf", "file_data": data}}
    assert sent(server) == [[file, {"type": "text", "text": "Sum it up."}]]


def test_a_null_for_a_picture_is_no_text_of_the_prompt(tmp_path: Path, server: Server) -> None:
    run(tmp_path, server, None, "https://example.org/a.png")
    shown = str(sd.explain(tmp_path / "flow.yaml", state=tmp_path / "other"))
    assert "must give an image, and gives null" in shown
    assert "null reaches the prompt" not in shown


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("notes.txt", "the image 'notes.txt' is no image that servers take (png, jpeg, gif and webp)"),
        ("gone.png", "the image 'gone.png' is not there"),
        ("../a.png", "is not in the flow's folder"),
        ("/etc/passwd", "is not in the flow's folder"),
        ("link.png", "is not in the flow's folder"),
        ("a\0b", "cannot be read"),
        ("large.png", "has 20.0 MiB; at most 20 are sent"),
        ("file:///etc/passwd", "is an address of the kind file:, which no server reads"),
        ("S3://bucket/a.png", "is an address of the kind s3:, which no server reads"),
        ("https://example.org/a b.png", "is no address: there is a blank in it"),
        ("https:///a.png", "is no address: it names no host"),
        ("https://[a.png", "is no address: it names no host"),
        ("DATA:image/png;base64,a", "the bytes are not base64"),
        ("data:image/png,abc", "a `data:` address must hold base64"),
        ("data:image/png;base64,a", "the bytes are not base64"),
        ("data:image/png;base64,aaaa", "is no image that servers take"),
        (None, "must give an image, and gives null"),
        ("", "must give an image, and gives an empty text"),
        (7, "must give an image, and gives a number"),
        (".", "is no file"),
        ("empty.png", "the image 'empty.png' is empty"),
    ],
)
def test_what_is_no_picture_fails_its_row_before_any_engine_call(
    tmp_path: Path, server: Server, source: Any, says: str
) -> None:
    folder = tmp_path / "flow"
    folder.mkdir()
    (tmp_path / "a.png").write_bytes(png())
    (folder / "link.png").symlink_to(tmp_path / "a.png")
    (folder / "good.png").write_bytes(png())
    (folder / "notes.txt").write_text("a picture of a lamp")
    (folder / "empty.png").touch()
    (folder / "large.png").write_bytes(png(rest=b"x" * message_files.MAX_PART_BYTES))
    result = run(folder, server, "good.png", source)
    assert [row["id"] for row in result] == [0]
    (error,) = result.errors
    assert says in str(error)
    assert len(sent(server)) == 1


def test_pictures_of_one_call_are_bounded_together(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_files, "MAX_CALL_BYTES", len(png()))
    (tmp_path / "a.png").write_bytes(png())
    parts = '[{image: "{{ row.photo }}"}, {image: "{{ row.photo }}"}]'
    result = run(tmp_path, server, "a.png", parts=parts)
    assert "MiB together" in str(result.errors[0])
    assert not sent(server)


def test_a_file_that_changes_before_it_is_sent_fails_its_call(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    unread = Message("user", "", (UnreadPart("image", "a.png"),))
    (message,) = asyncio.run(message_files.read_parts([unread], tmp_path))
    (part,) = message.parts
    assert isinstance(part, ImagePart)
    assert (part.read(), part.size, part.num_tokens) == (png(), (100, 50), 255)
    (tmp_path / "a.png").write_bytes(png(rest=b"more"))
    with pytest.raises(OperatorError, match="was changed while the run went on"):
        part.read()
