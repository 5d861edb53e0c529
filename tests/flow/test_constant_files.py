"""Constants in files: what they hold is the constant, whatever the file is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError, Location
from sundog.flow.bind import load_flow
from sundog.flow.python.builder import FlowBuilder

FLOW = """\
name: ruled
inputs: {rows: rows.csv}
constants:
  rules: {file: %s}
outputs: {first: "{{ rules }}"}
"""


def constant(folder: Path, file: str, text: str | bytes, name: str | None = None) -> Any:
    (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "flow.yaml").write_text(FLOW % (name or file))
    return load_flow(folder / "flow.yaml").constants["rules"]


@pytest.mark.parametrize(
    ("file", "text", "value"),
    [
        ("rules.yaml", "words: {max: 30}\nkinds: [a, 1, null]\n", {"words": {"max": 30}, "kinds": ["a", 1, None]}),
        ("rules.YML", "just text", "just text"),
        ("rules.json", '\ufeff{"a": [1.5, true, null]}', {"a": [1.5, True, None]}),
        (
            "rules.csv",
            'code,text\r\n007,"a, ""b""\r\nc"\r\n\r\n1,\r\n',
            [{"code": "007", "text": 'a, "b"\nc'}, {"code": "1", "text": ""}],
        ),
        ("rules.csv", "code\n", []),
    ],
)
def test_a_constant_is_what_its_file_holds(tmp_path: Path, file: str, text: str, value: Any) -> None:
    assert constant(tmp_path, file, text) == value


def test_another_content_is_another_flow_and_another_name_is_not(tmp_path: Path) -> None:
    constant(tmp_path, "a.json", "[1]")
    one = load_flow(tmp_path / "flow.yaml")
    constant(tmp_path, "b.yaml", "[1]")
    assert load_flow(tmp_path / "flow.yaml") == one
    constant(tmp_path, "b.yaml", "[2]")
    assert load_flow(tmp_path / "flow.yaml") != one


def test_a_builder_reads_the_same(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"a": 1}')
    flow = FlowBuilder("ruled", base_dir=tmp_path)
    row = flow.input("rows", rows=[{"a": 1}])
    rules = flow.constant("rules", {"file": "rules.json"})
    flow.output(a=rules.a, b=row.a)
    assert flow.plan().constants == {"rules": {"a": 1}}


def test_a_mapping_with_more_than_a_file_is_a_mapping(tmp_path: Path) -> None:
    assert constant(tmp_path, "a.json", "1", "x, more: 1") == {"file": "x", "more": 1}


@pytest.mark.parametrize(
    ("file", "text", "what"),
    [
        ("rules.toml", "a = 1", "no constant is read from 'rules.toml'"),
        (
            "rules.json",
            '{"a": 1, "a": 2}',
            "the file 'rules.json' cannot be read: the key 'a' is there twice in one mapping",
        ),
        ("rules.json", "NaN", "the file 'rules.json' cannot be read: NaN is no JSON number"),
        ("rules.json", "[" * 5_000, "the file 'rules.json' cannot be read: "),
        ("rules.json", b"\xff", "the file 'rules.json' is not UTF-8 text"),
        ("rules.json", "1" * (2**20 + 1), "the file 'rules.json' is longer than 1 MiB"),
        ("rules.csv", "a,a\n1,2\n", "the file 'rules.csv' cannot be read: its first line must name every column"),
    ],
)
def test_what_is_no_constant_is_told_where_the_flow_names_it(
    tmp_path: Path, file: str, text: str | bytes, what: str
) -> None:
    with pytest.raises(FlowError) as caught:
        constant(tmp_path, file, text)
    assert caught.value.what.startswith(what)
    assert caught.value.where == Location(str(tmp_path / "flow.yaml"), 4, 17)


@pytest.mark.parametrize(
    ("file", "text", "line"), [("rules.yaml", "a: 1\nb: }\n", 2), ("rules.csv", "a,b\n1,2\n3\n", 3)]
)
def test_a_mistake_in_a_file_is_told_by_its_line(tmp_path: Path, file: str, text: str, line: int) -> None:
    with pytest.raises(FlowError) as caught:
        constant(tmp_path, file, text)
    assert isinstance(caught.value.where, Location)
    assert (caught.value.where.file, caught.value.where.line) == (str(tmp_path / file), line)


@pytest.mark.parametrize("name", ["../secret.json", "/etc/passwd.json", "link.json", "missing.json", ""])
def test_files_outside_the_folder_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.json").write_text("1")
    folder = tmp_path / "flow"
    folder.mkdir()
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(FlowError, match=r"not in the flow's folder|is not there|no constant"):
        constant(folder, "other.json", "1", f"'{name}'")
