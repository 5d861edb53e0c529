"""Prompts in files of their own: what is read, what is not, and where mistakes in them are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

import sundog as sd
from sundog.errors import FlowError
from sundog.flow import prompt_file
from sundog.flow.bind import load_flow
from sundog.ir.logical import LogicalPlan, Step
from sundog.operators.llm import LLMSpec

FLOW = """
name: filed
engines: {local: {kind: "null"}}
inputs: {rows: rows.jsonl}
constants: {tone: calm}
nodes:
  answer:
    llm:
      engine: local
      %s
outputs: {text: "{{ answer.text }}"}
"""


def plan_of(folder: Path, fields: str = "prompt: {file: prompt.md}", **files: str) -> LogicalPlan:
    """The plan of a flow whose step has `fields`; `files` by name without `.md`."""
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)
    (folder / "flow.yaml").write_text(FLOW % fields)
    return load_flow(folder / "flow.yaml")


def spec_of(plan: LogicalPlan) -> LLMSpec:
    (node,) = plan.nodes
    return cast(LLMSpec, cast(Step, node).spec)


def test_a_prompt_is_the_text_of_its_file(tmp_path: Path) -> None:
    spec = spec_of(plan_of(tmp_path, prompt="Be {{ tone }}.\n\n{{ row.text }}\n"))
    assert str(spec.prompt) == "Be {{ tone }}.\n\n{{ row.text }}", "the last line end is the editor's"


def test_system_and_messages_may_be_files_too(tmp_path: Path) -> None:
    fields = "messages: [{role: user, content: {file: ask.md}}, {role: assistant, content: Yes.}]\n      " + (
        "system: {file: rules.md}"
    )
    spec = spec_of(plan_of(tmp_path, fields, ask="{{ row.text }}?", rules="Rules."))
    assert [(role, str(text)) for role, text in spec.conversation()] == [
        ("system", "Rules."),
        ("user", "{{ row.text }}?"),
        ("assistant", "Yes."),
    ]


def test_files_include_files(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "end.md").write_text("End.\n")
    spec = spec_of(
        plan_of(
            tmp_path,
            prompt="A {% include 'rules.md' %} B\n{%- include \"parts/end.md\" -%}\n C {# {% include 'x' %} #}"
            "{% raw %}{% include 'y' %}{% endraw %}",
            rules="{% if row.long %}Long. {% endif %}{% include 'parts/end.md' %}",
        )
    )
    assert str(spec.prompt) == (
        "A {% if row.long %}Long. {% endif %}End. BEnd.C {# {% include 'x' %} #}{% raw %}{% include 'y' %}{% endraw %}"
    )


def test_an_edited_prompt_is_another_plan(tmp_path: Path) -> None:
    first = plan_of(tmp_path, prompt="{% include 'rules.md' %}", rules="one")
    assert plan_of(tmp_path, rules="one") == first
    assert plan_of(tmp_path, rules="two") != first
    assert plan_of(tmp_path, "prompt: two") == plan_of(tmp_path), "where the text stands makes no difference"


def test_the_builder_reads_files(tmp_path: Path) -> None:
    (tmp_path / "prompt.md").write_text("{{ row.text }}")
    flow = sd.Flow("filed", base_dir=str(tmp_path))
    engine = flow.engine("local", kind="null")
    flow.input("rows", "rows.jsonl")
    flow.constant("tone", "calm")
    answer = flow.llm("answer", engine=engine, prompt=sd.prompt_file("prompt.md"))
    flow.output(text=answer.text)
    assert flow.plan() == plan_of(tmp_path)


@pytest.mark.parametrize(
    ("files", "place", "what"),
    [
        ({"prompt": "One\n{{ row.text }\n"}, "prompt.md:2:1", "template error in line 2"),
        ({"prompt": "One\ntwo {{ nothing }}"}, "prompt.md:2:8", "unknown name 'nothing'"),
        ({"prompt": "One\n{% include 'rules.md' %}", "rules": "1\n2\n {{ nowhere }}"}, "rules.md:3:5", "unknown name"),
        ({"prompt": "{% include 'rules.md' %}\n{{ here }}", "rules": "1\n2"}, "prompt.md:2:4", "unknown name 'here'"),
        ({"prompt": "\n {% include 'no.md' %}"}, "prompt.md:2:2", "the prompt file 'no.md' is not there"),
        (
            {"prompt": "{% include 'rules.md' %}", "rules": "{% include 'prompt.md' %}"},
            "rules.md:1:1",
            "includes itself",
        ),
        ({"prompt": "{% include row.name %}"}, "prompt.md:1:1", "an include names one file as text"),
        ({"prompt": "{% include 'a.md' ignore missing %}"}, "prompt.md:1:1", "an include names one file as text"),
        ({"prompt": "x\n${env:SECRET_KEY}"}, "prompt.md:2:1", "may not stand here"),
        ({}, "flow.yaml:10:22", "the prompt file 'prompt.md' is not there"),
    ],
)
def test_mistakes_are_told_in_the_file_that_has_them(
    files: dict[str, str], place: str, what: str, tmp_path: Path
) -> None:
    with pytest.raises(FlowError) as caught:
        plan_of(tmp_path, **files)
    assert what in caught.value.what
    assert str(caught.value.where) == f"{tmp_path}/{place}"


@pytest.mark.parametrize("name", ["../secret.md", "FOLDER/../secret.md", "/SECRET", "link.md", "inner/secret.md", "''"])
@pytest.mark.parametrize("is_included", [False, True])
def test_nothing_outside_the_flows_folder_is_read(name: str, is_included: bool, tmp_path: Path) -> None:
    folder = tmp_path / "flow"
    folder.mkdir()
    (tmp_path / "secret.md").write_text("a secret")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "inner").symlink_to(tmp_path)
    name = name.replace("/SECRET", str(tmp_path / "secret.md")).replace("FOLDER", str(folder))
    fields = "prompt: {file: prompt.md}" if is_included else f"prompt: {{file: {name}}}"
    with pytest.raises(FlowError) as caught:
        plan_of(folder, fields, prompt=f"{{% include '{name}' %}}")
    assert "a secret" not in str(caught.value)
    assert any(text in caught.value.what for text in ("is not in the flow's folder", "an include names one file"))


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.md").write_text("{{ row.text }}")
    (tmp_path / "prompt.md").symlink_to("real.md")
    assert str(spec_of(plan_of(tmp_path)).prompt) == "{{ row.text }}"


def test_only_plain_files_of_bounded_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(FlowError, match=r"'pipe\.md' is not there"):
        plan_of(tmp_path, "prompt: {file: pipe.md}")
    (tmp_path / "bytes.md").write_bytes(b"ab\xff")
    with pytest.raises(FlowError, match=r"'bytes\.md' is not UTF-8 text"):
        plan_of(tmp_path, "prompt: {file: bytes.md}")
    monkeypatch.setattr(prompt_file, "MAX_PROMPT_BYTES", 100)
    with pytest.raises(FlowError, match="is longer than"):
        plan_of(tmp_path, prompt="x" * 101)
    with pytest.raises(FlowError, match="with what it includes is longer than"):
        plan_of(tmp_path, prompt="{% include 'a.md' %}" * 4, a="x" * 30)
    monkeypatch.setattr(prompt_file, "MAX_INCLUDES", 3)
    with pytest.raises(FlowError, match="includes more than 3 files"):
        plan_of(tmp_path, prompt="{% include 'a.md' %}" * 4, a="")


@pytest.mark.parametrize("value", ["{file: 3}", "{file: a.md, more: 1}", "{file: [a.md]}"])
def test_a_file_is_named_alone(value: str, tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="'file' names a file of the flow's folder"):
        plan_of(tmp_path, f"prompt: {value}")


def test_an_include_in_the_flow_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="templates cannot read files"):
        plan_of(tmp_path, "prompt: \"{% include 'rules.md' %}\"", rules="x")
