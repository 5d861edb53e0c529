"""Vectors of rows, from a server that sees the wire to a query that compares them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.engines.modelled.vectors import hashed_vector
from sundog.errors import FlowError
from tests.engines.server import MODEL, Server, running_server
from tests.engines.tiny_embedder import write_embedder

TABLES = """
name: near
engines: {{vectors: {{kind: openai, model: {model}, base_url: "{url}"}}}}
inputs: {{notes: notes.csv}}
tables:
  placed:
    from: notes
    nodes: {{place: {{embed: {{engine: vectors, text: "{{{{ row.text }}}}", dimensions: 3}}, retries: 0}}}}
    outputs: {{id: "{{{{ row.id }}}}", vector: "{{{{ place.vector }}}}"}}
    types: {{vector: "{type}"}}
  near:
    failed_rows: leave_out
    query: >
      select a.id as a, b.id as b, {function}(a.vector, b.vector) as likeness
      from placed a join placed b on a.id < b.id order by a.id, b.id
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def run(folder: Path, server: Server, texts: list[str], **of_type: str) -> Any:
    (folder / "notes.csv").write_text("id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(texts, 10)))
    written = {"type": "FLOAT[3]", "function": "array_cosine_similarity", **of_type}
    (folder / "flow.yaml").write_text(TABLES.format(model=MODEL, url=server.base_url, **written))
    return sd.load(folder / "flow.yaml").run(state=folder / "state")


def requests(server: Server) -> list[list[str]]:
    return [exchange.body["input"] for exchange in server.exchanges if exchange.path == "/v1/embeddings"]


@pytest.mark.parametrize(
    ("type", "function"), [("FLOAT[3]", "array_cosine_similarity"), ("DOUBLE[]", "list_cosine_similarity")]
)
def test_queries_compare_vectors(tmp_path: Path, server: Server, type: str, function: str) -> None:
    rows = list(run(tmp_path, server, ["one", "two", "three"], type=type, function=function))
    one, two, three = (hashed_vector(MODEL, text, 3) for text in ("one", "two", "three"))
    pairs = ((one, two), (one, three), (two, three))
    expected = [sum(x * y for x, y in zip(a, b, strict=True)) for a, b in pairs]
    assert [row["likeness"] for row in rows] == pytest.approx(expected, abs=1e-5)


def test_equal_texts_are_asked_for_once_and_many_by_one_request(tmp_path: Path, server: Server) -> None:
    result = run(tmp_path, server, [f"text {number % 40}" for number in range(80)])
    asked = [text for texts in requests(server) for text in texts]
    assert sorted(asked) == sorted({f"text {number}" for number in range(40)})
    assert len(requests(server)) < 10
    assert result.report.num_prompt_tokens == sum(map(len, asked))
    again = run(tmp_path, server, [f"text {number % 40}" for number in range(90)])
    assert [text for texts in requests(server) for text in texts] == asked
    assert again.report.num_prompt_tokens == 0


def test_a_text_that_is_refused_fails_its_row_alone(tmp_path: Path, server: Server) -> None:
    rows = list(run(tmp_path, server, ["one", "bad", "two", "three"]))
    assert [(row["a"], row["b"]) for row in rows] == [(10, 12), (10, 13), (12, 13)]


def built(**fields: Any) -> sd.Flow:
    flow = sd.Flow("built")
    engine = flow.engine("small", **fields)
    flow.engine("other", kind="null", model="other")
    row = flow.input("rows", rows=[{"text": "one"}, {"text": ""}])
    flow.output(vector=flow.embed("place", engine=engine, text=row.text, dimensions=2, when=row.text != "").vector)
    return flow


def test_vectors_are_asked_for_in_python(tmp_path: Path) -> None:
    rows = built(kind="null", model="m").run(state=tmp_path).to_list()
    assert rows == [{"vector": list(hashed_vector("m", "one", 2))}, {"vector": None}]


def test_an_engine_without_vectors_is_refused_before_anything(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="gives no vectors"):
        built(kind="openvino", model="m").run(state=tmp_path)


def test_no_other_engine_stands_in() -> None:
    flow = sd.Flow("two")
    row = flow.input("rows", rows=[{"text": "one"}])
    engine, other = (flow.engine(name, kind="null", model=name) for name in "ab")
    flow.output(vector=flow.embed("place", engine=engine, text=row.text, on_error={"engine": other}).vector)
    with pytest.raises(FlowError, match="cannot be compared"):
        flow.plan()


@pytest.mark.local
@pytest.mark.skipif(importlib.util.find_spec("openvino_genai") is None, reason="openvino-genai is not installed")
def test_a_model_in_a_folder_gives_vectors_and_cuts_no_text(tmp_path: Path) -> None:
    texts = ["a b c", "x " * 100, "a b c", "q w e"]
    flow = sd.Flow("local")
    engine = flow.engine("vectors", kind="openvino", model=str(write_embedder(tmp_path / "model")))
    row = flow.input("rows", rows=[{"text": text} for text in texts])
    flow.output(text=row.text, vector=flow.embed("place", engine=engine, text=row.text).vector)
    result = flow.run(state=tmp_path / "state")
    rows = result.to_list()
    assert [row["text"] for row in rows] == ["a b c", "a b c", "q w e"]
    assert rows[0] == rows[1] != rows[2]
    (failed,) = result.errors
    assert "the text has 102 tokens, and the model takes 64" in failed["cause"]
    assert result.report.num_prompt_tokens == 5 + 5
