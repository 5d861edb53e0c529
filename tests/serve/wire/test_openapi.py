"""The descriptions of flows fit what clients send and get; the page shows them without a script."""

from __future__ import annotations

import shlex
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from sundog.serve.wire.batches.files import file_document, page_document
from sundog.serve.wire.batches.lines import line_error
from sundog.serve.wire.batches.requests import batch_document
from sundog.serve.wire.descriptions.flow_page import example_command, flow_page
from sundog.serve.wire.descriptions.openapi import FlowForm, openapi_document
from sundog.serve.wire.errors import Refusal
from sundog.serve.wire.flow_runs import ShownRow, run_document
from sundog.store.batches import KeptBatch, LineTotals
from sundog.store.files import KeptFile

FORM = FlowForm("topics", ("question", "topic"), ("answer",))
DOCUMENT = openapi_document([FORM], "1.0")
RUNS = DOCUMENT["paths"]["/v1/flows/topics/runs"]["post"]
WANTED = RUNS["requestBody"]["content"]["application/json"]["schema"]
ROW = {"question": "why", "topic": 1}


def test_each_flow_has_its_paths_and_each_operation_a_name_of_its_own() -> None:
    paths = openapi_document([FORM, FlowForm("other", (), ())], "1.0")["paths"]
    of_flows = [f"/v1/flows/{name}/runs{rest}" for name in ("topics", "other") for rest in ("", "/{id}")]
    of_batches = [*(f"/v1/files{rest}" for rest in ("", "/{id}", "/{id}/content"))]
    of_batches += [f"/v1/batches{rest}" for rest in ("", "/{id}", "/{id}/cancel")]
    assert list(paths) == of_flows + of_batches
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(names) == len(set(names)) == 15
    assert set(RUNS["responses"]) == {"200", "202", "400", "404", "413", "422", "429", "503"}


def test_a_server_with_keys_asks_for_one() -> None:
    document = openapi_document([FORM], "1.0", has_keys=True)
    assert document["security"] == [{name: []} for name in document["components"]["securitySchemes"]]
    for path in document["paths"].values():
        assert all({"401", "403"} <= set(operation["responses"]) for operation in path.values())
    assert "security" not in DOCUMENT
    assert "401" not in RUNS["responses"]


@pytest.mark.parametrize("body", [{"row": ROW}, {"rows": [ROW, ROW], "stream": True, "deadline_s": 3, "priority": -1}])
def test_right_bodies_fit_the_form(body: object) -> None:
    jsonschema.validate(body, WANTED)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"row": ROW, "rows": [ROW]},
        {"row": {"topic": 1}},
        {"rows": []},
        {"row": ROW, "x": 1},
        {"rows": [ROW] * 1001},
    ],
)
def test_wrong_bodies_do_not(body: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, WANTED)


@pytest.mark.parametrize("is_single", [True, False])
def test_answers_fit_the_form(is_single: bool) -> None:
    ended = {0: ShownRow("failed", {"node": "a", "cause": "b", "attempts": 1})}
    run = run_document("r", "topics", "running", accepted_at=1.0, num_rows=1, is_single=is_single, ended=ended)
    jsonschema.validate(run, RUNS["responses"]["200"]["content"]["application/json"]["schema"])


def test_the_page_shows_names_as_they_are_and_needs_nothing_from_elsewhere() -> None:
    seen: list[tuple[str, dict[str, str | None]]] = []
    texts: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

        def handle_data(self, data: str) -> None:
            texts.append(data)

    form = FlowForm("topics", ("it's <b>",), ("answer",))
    Reader().feed(flow_page([form], "http://127.0.0.1:8321"))
    assert {"script", "link", "img", "b"}.isdisjoint(tag for tag, _ in seen)
    assert example_command(form, "http://127.0.0.1:8321") in texts
    assert "it's <b>" in texts
    words = shlex.split(example_command(form, "http://127.0.0.1:8321"))
    assert words[0:3] == ["curl", "http://127.0.0.1:8321/v1/flows/topics/runs", "-d"]
    assert words[3] == '{"row": {"it\'s <b>": "..."}}'


def test_batches_and_files_are_as_described() -> None:
    paths = DOCUMENT["paths"]
    batch = KeptBatch("batch_1", "", "file-1", "/v1/embeddings", "24h", {"a": "b"}, None, "o", "e", 1.0, 2.0)
    failed = replace(batch, status="failed", times={"failed": 2.0}, errors=[line_error(Refusal(400, "wrong"), 3)])
    for one in (batch, failed):
        jsonschema.validate(batch_document(one, LineTotals()), answer_of(paths["/v1/batches/{id}"]["get"]))
    file = file_document(KeptFile("file-1", "", "batch", "lines.jsonl", 3, 1.0), 3)
    jsonschema.validate(file, answer_of(paths["/v1/files/{id}"]["get"]))
    jsonschema.validate(page_document([file], 1), answer_of(paths["/v1/files"]["get"]))
    wanted = paths["/v1/batches"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"}
    jsonschema.validate(body, wanted)
    for wrong in ({"completion_window": "soon"}, {"windows": 1}, {"metadata": {"a": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(body | wrong, wanted)


def answer_of(operation: dict[str, Any]) -> dict[str, Any]:
    """Return the form of what an operation answers when it is done."""
    schema: dict[str, Any] = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return schema
