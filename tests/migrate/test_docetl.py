"""DocETL's pipelines become flows that run; what they cannot say is told, and nothing else is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError
from sundog.migrate.docetl.pipeline import import_docetl
from sundog.migrate.docetl.schemas import answer_form
from sundog.migrate.written import FreshNames
from tests.migrate.pipelines import imported, rows_of

QUOTES: dict[str, Any] = {
    "name": "quotes", "type": "map", "prompt": "Quotes of:\n{{ input.review }}", "model": "gpt-4o",
    "output": {"schema": {"quotes": "list[string]", "mood": "enum[good, bad]"}},
}  # fmt: skip
UNNEST = {"name": "single", "type": "unnest", "unnest_key": "quotes"}


def test_map_and_filter_are_steps_of_one_table(folder: Path) -> None:
    keep: dict[str, Any] = {"name": "keep?", "type": "filter", "prompt": "Good? {{ input.mood }} {{ input['review'] }}"}
    keep["output"] = {"schema": {"keep": "boolean"}}
    made = imported(folder, QUOTES, {**keep, "timeout": 9, "max_retries_per_timeout": 1})
    assert made.flow["nodes"] == {
        "quotes": {
            "llm": {
                "engine": "gpt_4o",
                "prompt": "Quotes of:\n{{ row.review }}",
                "output": {"quotes": "list[str]", "mood": ["good", "bad"]},
            }
        },
        "keep": {
            "llm": {
                "engine": "gpt_4o_mini",
                "prompt": "Good? {{ quotes.mood }} {{ row.review }}",
                "output": {"keep": "bool"},
            },
            "timeout": 9,
            "retries": 1,
        },
        "keep_keep": {"filter": "{{ keep.keep }}"},
    }
    assert made.flow["outputs"] == {
        "id": "{{ row.id }}",
        "review": "{{ row.review }}",
        "quotes": "{{ quotes.quotes }}",
        "mood": "{{ quotes.mood }}",
    }
    assert made.flow["inputs"] == {"reviews": {"path": "reviews.json"}}
    assert made.not_taken_over == []
    assert len(rows_of(made, folder)) <= 3


def test_unnest_and_reduce_begin_tables(folder: Path) -> None:
    about = {"name": "about", "type": "map", "prompt": "{{ input.quotes }}", "output": {"schema": {"text": "string"}}}
    by_mood: dict[str, Any] = {
        "name": "by mood",
        "type": "reduce",
        "reduce_key": "mood",
        "output": {"schema": {"sum": "string"}},
    }
    by_mood["prompt"] = "{{ inputs[0].mood }}:{% for item in inputs %} {{ loop.index }} {{ item.quotes }}{% endfor %}"
    made = imported(folder, QUOTES, UNNEST, about, by_mood)
    assert list(made.flow["tables"]) == ["all", "single", "by_mood"]
    assert made.flow["results"] == ["by_mood"]
    assert made.not_taken_over == ["by mood: the numbers of the texts (loop.index)"]
    single = made.flow["tables"]["single"]
    assert single["outputs"]["text"] == "{{ about.text_ }}", "`text` is the whole answer"
    assert made.flow["tables"]["by_mood"] == {
        "reduce": {
            "source": "single",
            "by": "mood",
            "text": "quotes",
            "engine": "gpt_4o_mini",
            "prompt": "{{ row.mood }}:",
            "as": "sum",
        }
    }
    rows = rows_of(made, folder)
    assert {row["mood"] for row in rows} <= {"good", "bad"}
    assert all(isinstance(row["sum"], str) for row in rows)


def test_all_rows_are_one_group(folder: Path) -> None:
    told: dict[str, Any] = {
        "name": "told",
        "type": "reduce",
        "reduce_key": "_all",
        "output": {"schema": {"sum": "string"}},
    }
    told["prompt"] = "Of all:\n{{ inputs | map(attribute='review') | join('; ') }}"
    made = imported(folder, told)
    assert made.flow["tables"]["told"]["reduce"]["source"] == "reviews", "no table stands for an input alone"
    assert [sorted(row) for row in rows_of(made, folder)] == [["sum"]]


def test_values_are_resolved(folder: Path) -> None:
    same: dict[str, Any] = {"name": "same", "type": "resolve", "output": {"schema": {"quotes": "str"}}}
    same["comparison_prompt"] = "Is {{ input1.quotes }} what {{ input2.quotes }} is?"
    same |= {"blocking_threshold": 0.5, "embedding_model": "my/own", "resolution_prompt": "x"}
    same["comparison_model"] = "gpt-4o"
    made = imported(folder, QUOTES, UNNEST, same)
    assert made.flow["tables"]["same"] == {
        "resolve": {
            "source": "single",
            "column": "quotes",
            "engine": "gpt_4o",
            "prompt": "Is {{ row.left }} what {{ row.right }} is?",
            "as": "canonical",
        },
        "outputs": {
            "id": "{{ row.id }}",
            "review": "{{ row.review }}",
            "mood": "{{ row.mood }}",
            "quotes": "{{ row.canonical }}",
        },
    }
    assert [what.partition(":")[0] for what in sorted(made.not_taken_over)] == [
        "same.blocking_threshold",
        "same.resolution_prompt",
    ]
    assert all(isinstance(row["quotes"], str) for row in rows_of(made, folder))


@pytest.mark.parametrize(
    ("fields", "chunks"),
    [
        (
            {"method": "delimiter", "method_kwargs": {"delimiter": ". "}},
            ["It boils fast", "The handle is hot.", "Loud.", "It boils fast", "Loud."],
        ),
        (
            {"method": "token_count", "method_kwargs": {"num_tokens": 5}},
            ["It boils fast. The h", "andle is hot.", "Loud.", "It boils fast. Loud."],
        ),
    ],
)
def test_texts_are_split(folder: Path, fields: dict[str, Any], chunks: list[str]) -> None:
    made = imported(folder, {"name": "cut", "type": "split", "split_key": "review", **fields})
    rows = rows_of(made, folder)
    assert [row["review_chunk"] for row in rows] == chunks
    assert [row["cut_chunk_num"] for row in rows[:2]] == [1, 2]
    assert rows[0]["cut_id"] == rows[1]["cut_id"] != rows[2]["cut_id"]


def test_chunks_see_those_beside_them(folder: Path) -> None:
    split: dict[str, Any] = {"name": "cut", "type": "split", "split_key": "review", "method": "delimiter"}
    split["method_kwargs"] = {"delimiter": ". "}
    keys = {"content_key": "review_chunk", "doc_id_key": "cut_id", "order_key": "cut_chunk_num"}
    around = {"previous": {"tail": {"count": 1}, "head": {"count": 1}}, "next": {"head": {"count": 2}}}
    gather = {"name": "seen", "type": "gather", **keys, "peripheral_chunks": around}
    made = imported(folder, split, gather)
    assert [row["review_chunk_rendered"] for row in rows_of(made, folder)] == [
        "Text:\nIt boils fast\nAfter:\nThe handle is hot.",
        "Before:\nIt boils fast\nText:\nThe handle is hot.",
        "Text:\nLoud.",
        "Text:\nIt boils fast\nAfter:\nLoud.",
        "Before:\nIt boils fast\nText:\nLoud.",
    ]
    assert made.not_taken_over == ["seen.peripheral_chunks.previous.head: only the chunks right beside one"]


def test_fields_of_an_element_become_columns(folder: Path) -> None:
    (folder / "reviews.json").write_text(
        json.dumps([{"id": 1, "who": [{"name": "Ann", "age": 3}, {"name": "Bo", "age": 4}]}])
    )
    made = imported(folder, {"name": "people", "type": "unnest", "unnest_key": "who", "expand_fields": ["name", "age"]})
    rows = rows_of(made, folder)
    assert [(row["id"], row["name"], row["age"]) for row in rows] == [(1, "Ann", 3), (1, "Bo", 4)]


def test_a_step_reads_what_the_step_before_gives(folder: Path) -> None:
    steps = [
        {"name": "first", "input": "reviews", "operations": ["quotes"]},
        {"name": "second", "input": "first", "operations": ["single"]},
    ]
    made = imported(folder, QUOTES, UNNEST, pipeline={"steps": steps})
    assert list(made.flow["tables"]) == ["first", "single"]
    assert all(isinstance(row["quotes"], str) for row in rows_of(made, folder))


def test_what_is_not_taken_over_is_told(folder: Path) -> None:
    checked = {**QUOTES, "validate": ["len(output['quotes']) > 1"], "gleaning": {"num_rounds": 1}, "odd": 1}
    rank = {"name": "best", "type": "rank", "prompt": "x"}
    cluster = {"name": "groups", "type": "cluster"}
    made = imported(folder, checked, rank, cluster, UNNEST)
    assert sorted(made.not_taken_over) == [
        "cluster 'groups' and what comes after it: it has no equal",
        "quotes.gleaning: write a loop of two steps, one that answers and one that judges",
        "quotes.odd",
        "quotes.validate: Python expressions; say it in the output's schema, or filter by a template",
        "rank 'best': write a step that scores, and a table with `order by`; the rows go on in their order",
    ]
    text = made.text(folder, "pipeline.yaml")
    assert text.startswith("# imported from pipeline.yaml\n# not taken over: ")
    assert list(made.flow["nodes"]) == ["quotes"], "nothing after the clusters"


def test_models_and_the_system_prompt(folder: Path) -> None:
    other = {**QUOTES, "name": "other", "model": "ollama/llama3", "litellm_completion_kwargs": {"temperature": 0.5}}
    far = {**QUOTES, "name": "far", "model": "anthropic/claude"}
    persona = {"persona": "a reader", "dataset_description": "reviews of kettles"}
    made = imported(folder, QUOTES, other, far, system_prompt=persona)
    assert made.flow["engines"] == {
        "gpt_4o": {
            "kind": "openai",
            "model": "gpt-4o",
            "base_url": "https://api.openai.com/v1",
            "api_key": "${env:OPENAI_API_KEY}",
        },
        "llama3": {"kind": "openai", "model": "llama3", "base_url": "http://localhost:11434/v1"},
        "claude": {**made.flow["engines"]["gpt_4o"], "model": "claude"},
    }
    assert [what.partition(":")[0] for what in made.not_taken_over] == ["the provider of 'anthropic/claude'"]
    assert made.flow["constants"] == {"system": "You are a reader. The data: reviews of kettles."}
    assert made.flow["nodes"]["other"]["llm"]["temperature"] == 0.5
    assert made.flow["nodes"]["other"]["llm"]["system"] == "{{ system }}"


def test_rows_that_are_not_there_have_the_columns_that_prompts_name(folder: Path) -> None:
    (folder / "reviews.json").unlink()
    made = imported(folder, QUOTES)
    assert list(made.flow["outputs"]) == ["review", "quotes", "mood"]
    assert "were not there" in made.remarks[0]


def test_python_in_the_file_ends_the_way(folder: Path) -> None:
    made = imported(folder, QUOTES, {"name": "clean", "type": "code_map", "code": "def transform(doc): ..."}, UNNEST)
    assert made.not_taken_over == [
        "code_map 'clean' and what comes after it: its Python stands in the file; put it into a module, and write a "
        "python step"
    ]
    assert list(made.flow["nodes"]) == ["quotes"]


def test_operations_may_be_a_mapping(folder: Path) -> None:
    made = imported(folder, QUOTES, operations={"quotes": {key: QUOTES[key] for key in QUOTES if key != "name"}})
    assert list(made.flow["nodes"]) == ["quotes"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [", "the pipeline is no YAML"),
        ("a: 1", "this is no pipeline of DocETL"),
        ("pipeline: {steps: []}", "nothing of"),
        ("datasets: {}\npipeline: {steps: [{name: a, input: nix, operations: []}]}", "nothing of"),
    ],
)
def test_what_is_no_pipeline(folder: Path, text: str, what: str) -> None:
    (folder / "pipeline.yaml").write_text(text)
    with pytest.raises(FlowError) as caught:
        import_docetl(folder / "pipeline.yaml", folder)
    assert what in caught.value.what


def test_what_came_of_it_is_bound(folder: Path) -> None:
    with pytest.raises(FlowError) as caught:
        imported(folder, {**QUOTES, "prompt": "{{ input.review | nix }}"})
    assert "what came of pipeline.yaml is no flow" in caught.value.what
    assert "nix" in caught.value.what


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("string", "str"),
        ("Boolean", "bool"),
        ("list[ list[int] ]", "list[list[int]]"),
        ("{a: integer, b: list[str]}", {"a": "int", "b": "list[str]"}),
        ("list[{name: string, is old: bool}]", [{"name": "str", "is old": "bool"}]),
        ("enum[not yet, done]", ["not yet", "done"]),
    ],
)
def test_types_have_a_short_form(written: str, form: Any) -> None:
    assert answer_form({"a": written}) == {"a": form}


def test_objects_of_any_fields_need_a_schema() -> None:
    assert answer_form({"a": "list[object]", "b": "enum[x]"}) == {
        "json_schema": {
            "type": "object",
            "properties": {"a": {"type": "array", "items": {"type": "object"}}, "b": {"enum": ["x"]}},
            "required": ["a", "b"],
            "additionalProperties": False,
        }
    }


@pytest.mark.parametrize("written", ["list[", "{a}", "nix", "list[str]]"])
def test_types_that_cannot_be_read(written: str) -> None:
    with pytest.raises(FlowError):
        answer_form({"a": written})


def test_names_are_given_once() -> None:
    names = FreshNames(["row"])
    assert [names.give(wish) for wish in ("a b", "A b", "row", "a b")] == ["a_b", "A_b_2", "row_2", "a_b_3"]
