"""Outputs that are folders of parts: a reader of the manifest sees one whole result or none, whoever is killed when."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sundog.errors import ConfigError, RunError
from sundog.ir.row_ids import RowId
from sundog.ir.values.canonical import canonical_json
from sundog.runtime.rows.folders import parts
from sundog.runtime.rows.folders.output_folder import OutputFolder, PartOwner, folder_of
from sundog.runtime.rows.folders.parts import check_folder, write_folder_errors, write_parts
from sundog.runtime.rows.folders.places import KeptManifest, LocalPlace, StoragePlace, place_of
from sundog.runtime.rows.outputs import check_output_paths, output_meant
from sundog.store.segments.storage import ObjectStorage
from tests.store.segments.storages import s3_server

ROWS: list[dict[str, Any]] = [{"id": number, "text": "x" * number} for number in range(10)]
OWN = PartOwner("example-1", "")
OTHER = PartOwner("example-2", "")


def stored(rows: list[dict[str, Any]]) -> Callable[[], Iterator[tuple[RowId, bytes]]]:
    return lambda: (((index,), canonical_json(row)) for index, row in enumerate(rows))


def write(folder: OutputFolder, rows: list[dict[str, Any]], owner: PartOwner = OWN) -> tuple[str, ...]:
    return write_parts(folder, owner, list(ROWS[0]), stored(rows))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_PART_ROWS", 4)


@pytest.fixture(params=["path", "file", "s3"])
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder as a user writes it, without the slash."""
    if request.param == "s3":
        with s3_server(monkeypatch) as bucket:
            yield f"{bucket}/of/answers"
    else:
        yield f"{tmp_path}/answers" if request.param == "path" else f"file://{tmp_path}/answers"


@pytest.fixture
def folder(name: str) -> OutputFolder:
    return opened(f"{name}/")


def opened(written: str) -> OutputFolder:
    folder = folder_of(written)
    assert folder is not None
    return folder


def files(folder: OutputFolder) -> dict[str, bytes]:
    """All that lies there."""
    if folder.path is not None:
        return {file.name: file.read_bytes() for file in folder.path.iterdir()} if folder.path.is_dir() else {}
    storage = ObjectStorage(folder.written)
    return {name: storage.read(name) or b"" for name in storage.names("")}


def read(folder: OutputFolder) -> list[dict[str, Any]] | None:
    """The rows that a reader of the manifest sees, None where there is none; each part is as the manifest says, and no
    file is there besides."""
    found = files(folder)
    if "_manifest.json" not in found:
        return None
    manifest = json.loads(found.pop("_manifest.json"))
    rows: list[dict[str, Any]] = []
    for part in manifest["parts"]:
        body = found.pop(part["name"])
        assert (len(body), sha256(body).hexdigest()) == (part["num_bytes"], part["sha256"])
        some = read_rows(body, manifest["format"])
        assert len(some) == part["num_rows"] <= 4
        rows += some
    assert len(rows) == manifest["num_rows"]
    assert not {name for name in found if name != "errors.jsonl"}
    return rows


def read_rows(body: bytes, format: str) -> list[dict[str, Any]]:
    if format == "jsonl":
        return [json.loads(line) for line in body.splitlines()]
    return list(pq.read_table(BytesIO(body)).to_pylist())


@pytest.mark.parametrize("suffix", ["", ".parquet", ".jsonl"])
def test_parts_hold_the_rows_in_their_order(name: str, suffix: str) -> None:
    folder = opened(f"{name}{suffix}/")
    check_folder(folder, OWN.run_id)
    assert write(folder, ROWS) == ()
    assert read(folder) == ROWS
    names = sorted(one for one in files(folder) if one.startswith("part-"))
    assert [one[:10] for one in names] == ["part-00000", "part-00001", "part-00002"]
    assert {one.rpartition(".")[2] for one in names} == {suffix[1:] or "parquet"}


def test_all_parts_have_the_columns_that_all_rows_need(folder: OutputFolder) -> None:
    mixed = [{"id": number, "text": None if number < 8 else ["a", 1]} for number in range(10)]
    assert write(folder, mixed) == ("column 'text' is written as JSON text: it holds text and whole numbers",)
    schemas = [pq.read_schema(BytesIO(body)) for name, body in files(folder).items() if name.startswith("part-")]
    assert len(schemas) == 3
    assert all(schema.equals(schemas[0]) for schema in schemas)


def test_no_rows_are_a_part_with_columns(folder: OutputFolder) -> None:
    write(folder, [])
    assert read(folder) == []
    (part,) = (body for name, body in files(folder).items() if name.startswith("part-"))
    assert pq.read_schema(BytesIO(part)).names == ["id", "text"]


def test_long_rows_make_small_parts(folder: OutputFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_PART_BYTES", 40)
    write(folder, ROWS)
    assert read(folder) == ROWS
    assert len(files(folder)) == 1 + 5


def test_the_same_rows_change_nothing(folder: OutputFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, ROWS)
    before = files(folder)
    for place in (LocalPlace, StoragePlace):
        monkeypatch.delattr(place, "put")
        monkeypatch.delattr(place, "commit")
    write(folder, ROWS)
    assert files(folder) == before


def test_the_same_run_replaces_its_parts(folder: OutputFolder) -> None:
    write(folder, ROWS[:5] + ROWS[6:])
    check_folder(folder, OWN.run_id)
    before = files(folder)
    write(folder, ROWS)
    assert read(folder) == ROWS
    assert len(before.keys() & files(folder)) == 2, "the manifest's name, and the first part, which holds the same"


def test_another_run_is_refused(folder: OutputFolder) -> None:
    write(folder, ROWS)
    before = files(folder)
    for refused in (lambda: check_folder(folder, OTHER.run_id), lambda: write(folder, ROWS[:3], OTHER)):
        with pytest.raises(ConfigError, match="holds the output of run example-1, and this is another run"):
            refused()
    assert files(folder) == before


def test_parts_of_a_run_without_an_end_are_refused(folder: OutputFolder) -> None:
    kill_in(folder, "put", 2)
    check_folder(folder, OWN.run_id)
    with pytest.raises(ConfigError, match="has parts of run example-1, which did not finish its output"):
        check_folder(folder, OTHER.run_id)


def test_what_is_no_manifest_is_refused(folder: OutputFolder) -> None:
    put(folder, "_manifest.json", b"{}")
    with pytest.raises(ConfigError, match=r"_manifest.json is no manifest of an output"):
        check_folder(folder, OWN.run_id)


def test_what_lies_deeper_is_not_looked_at(folder: OutputFolder) -> None:
    deeper = opened(f"{folder}inner/")
    if folder.path is not None:
        folder.path.mkdir()
    write(deeper, ROWS, OTHER)
    check_folder(folder, OWN.run_id)
    write(folder, ROWS)
    assert len([name for name in place_of(folder).names() if name != "inner"]) == 1 + 3
    assert read(deeper) == ROWS


def test_files_of_others_stay(folder: OutputFolder) -> None:
    put(folder, "part-of-mine.parquet", b"mine")
    check_folder(folder, OWN.run_id)
    write(folder, ROWS[1:])
    write(folder, ROWS)
    assert files(folder)["part-of-mine.parquet"] == b"mine"


def put(folder: OutputFolder, name: str, body: bytes) -> None:
    place = place_of(folder)
    with place.scratch("test") as file:
        file.write_bytes(body)
        place.put(name, file)


KILLED = """
import json, os, sys
from sundog.runtime.rows.folders import parts, places
from tests.io.test_output_folders import OWN, opened, write

written, name, number, rows = json.loads(sys.argv[1])
parts.MAX_PART_ROWS = 4
left = number
for place in (places.LocalPlace, places.StoragePlace):
    def counted(*words, done=getattr(place, name)):
        global left
        left -= 1
        if not left:
            os._exit(9)
        return done(*words)
    setattr(place, name, counted)
write(opened(written), rows, OWN)
"""


def kill_in(folder: OutputFolder, method: str, number: int, rows: list[dict[str, Any]] = ROWS) -> None:
    """Write in a process that is gone the moment it comes to the `number`th use of a method of the place."""
    root = Path(__file__).parents[2]
    words = json.dumps([folder.written, method, number, rows])
    assert subprocess.run([sys.executable, "-c", KILLED, words], cwd=root, check=False).returncode == 9


@pytest.mark.parametrize(("method", "number"), [("put", 1), ("put", 3), ("commit", 1)])
def test_a_kill_before_the_manifest_leaves_no_result(folder: OutputFolder, method: str, number: int) -> None:
    kill_in(folder, method, number)
    assert read(folder) is None
    assert len([name for name in files(folder) if name.startswith("part-")]) == (
        3 if method == "commit" else number - 1
    )
    check_folder(folder, OWN.run_id)
    write(folder, ROWS)
    assert read(folder) == ROWS


@pytest.mark.parametrize(("method", "number"), [("put", 1), ("put", 2), ("commit", 1)])
def test_a_kill_before_the_second_manifest_leaves_the_first_result(
    folder: OutputFolder, method: str, number: int
) -> None:
    write(folder, ROWS[2:])
    first = files(folder)
    kill_in(folder, method, number)
    now = files(folder)
    assert first.items() <= now.items(), "a reader sees the first result, whole"
    write(folder, ROWS)
    assert read(folder) == ROWS


def test_a_kill_while_the_old_parts_go_leaves_the_second_result(folder: OutputFolder) -> None:
    write(folder, ROWS[2:])
    kill_in(folder, "drop", 2)
    manifest = json.loads(files(folder)["_manifest.json"])
    assert manifest["num_rows"] == len(ROWS)
    assert {part["name"] for part in manifest["parts"]} <= files(folder).keys()
    write(folder, ROWS)
    assert read(folder) == ROWS, "what was left over is gone"


def meanwhile(monkeypatch: pytest.MonkeyPatch, folder: OutputFolder, rows: list[dict[str, Any]], by: PartOwner) -> None:
    """Let another process finish its output the moment before the next manifest is committed."""
    for place in (LocalPlace, StoragePlace):
        commit = place.commit

        def late(
            self: Any,
            body: bytes,
            before: KeptManifest | None,
            place: Any = place,
            commit: Any = commit,
        ) -> bool:
            monkeypatch.setattr(place, "commit", commit)
            write(folder, rows, by)
            return bool(commit(self, body, before))

        monkeypatch.setattr(place, "commit", late)


def test_two_runs_at_once_make_one_result(folder: OutputFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, folder, ROWS[:3], OTHER)
    with pytest.raises(ConfigError, match="holds the output of run example-2"):
        write(folder, ROWS)
    manifest = json.loads(files(folder)["_manifest.json"])
    assert (manifest["run_id"], manifest["num_rows"]) == ("example-2", 3)
    assert {part["name"] for part in manifest["parts"]} <= files(folder).keys()


def test_a_process_that_was_replaced_does_not_undo_what_came_after(
    folder: OutputFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, ROWS[:1])
    meanwhile(monkeypatch, folder, ROWS, OWN)
    with pytest.raises(RunError, match="another process has changed the manifest"):
        write(folder, ROWS[:3])
    manifest = json.loads(files(folder)["_manifest.json"])
    assert manifest["num_rows"] == len(ROWS)
    assert {part["name"] for part in manifest["parts"]} <= files(folder).keys()


def test_a_commit_whose_answer_was_lost_is_one(folder: OutputFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (LocalPlace, StoragePlace):
        commit = place.commit
        monkeypatch.setattr(place, "commit", lambda *words, commit=commit: commit(*words) and False)
    write(folder, ROWS)
    assert read(folder) == ROWS


def test_failures_lie_beside_the_parts(folder: OutputFolder) -> None:
    failures: list[Mapping[str, Any]] = [{"row": 2, "cause": "é"}, {"row": 5, "cause": "y"}]
    assert write_folder_errors(folder, failures) == f"{folder}errors.jsonl"
    assert [json.loads(line) for line in files(folder)["errors.jsonl"].splitlines()] == failures
    assert write_folder_errors(folder, []) is None
    assert "errors.jsonl" not in files(folder)
    assert write_folder_errors(folder, []) is None


def test_a_run_without_failures_makes_no_folder(tmp_path: Path) -> None:
    write_folder_errors(opened(f"{tmp_path}/answers/"), [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("written", "format", "path"),
    [
        ("answers/", "parquet", "answers"),
        ("answers//", "parquet", "answers"),
        ("out/v1.2/", "parquet", "out/v1.2"),
        ("out/answers.jsonl/", "jsonl", "out/answers.jsonl"),
        ("/", "parquet", "/"),
        ("file:///a%20b/answers/", "parquet", "/a b/answers"),
        ("s3://bucket/answers.parquet/", "parquet", None),
        ("gs://bucket/", "parquet", None),
    ],
)
def test_folders_as_they_are_typed(written: str, format: str, path: str | None) -> None:
    folder = opened(written)
    assert (folder.format, folder.path) == (format, None if path is None else Path(path))
    assert str(folder).endswith("/")
    assert not str(folder).endswith("//")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("s3://bucket/answers.parquet", "an output at a URL is a folder of parts"),
        ("answers.csv/", "cannot be of the format csv"),
        ("s3:///", "names no bucket"),
        ("file://host/answers/", "is no folder of this machine"),
    ],
)
def test_folders_that_mean_nothing(written: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        folder_of(written)


def test_a_text_without_a_slash_is_a_file() -> None:
    assert output_meant("answers.parquet") == Path("answers.parquet")
    assert output_meant(Path("answers.parquet")) == Path("answers.parquet")


def test_the_same_folder_is_known_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert opened("answers/").identity == opened(f"file://{tmp_path}/answers/").identity == f"{tmp_path}/answers/"
    assert opened("s3://bucket/answers/").identity == "s3://bucket/answers/"


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["gone/answers/"], "the folder of the output is not there"),
        (["file/"], "is no folder"),
        (["~/answers/"], "`~` is not expanded here"),
        (["s4://bucket/answers/"], "nothing can be kept at s4://bucket/answers"),
        (["answers/", "there/../answers/"], "the tables '0' and '1' both go to"),
        (["there"], "or write there/ for a folder of parts"),
    ],
)
def test_folders_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "there").mkdir()
    named = {str(number): output_meant(output) for number, output in enumerate(outputs)}
    with pytest.raises(ConfigError) as caught:
        check_output_paths(named)
    assert message in str(caught.value)
