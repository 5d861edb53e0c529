"""A place of this machine alone is refused before a job is sent, with the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sundog.errors import ConfigError, InputError
from sundog.ray.jobs.paths import check_places
from sundog.runtime.rows.outputs import Output, output_meant
from sundog.session.flow_file import load_plan
from tests.cli.flows import write_review

S3 = "s3://bucket/state"


def check(
    flow: Path,
    state: str = S3,
    *,
    outputs: Mapping[str, Output] | None = None,
    inputs: Mapping[str, Path] | None = None,
    shared: tuple[Path, ...] = (),
) -> None:
    check_places(load_plan(flow / "flow.yaml", inputs or {}), flow, outputs or {}, state, shared)


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    folder = tmp_path / "flow"
    folder.mkdir()
    write_review(folder)
    return folder


def test_what_goes_along_and_what_all_see_is_taken(flow: Path, tmp_path: Path) -> None:
    check(flow)
    check(flow, outputs={"": output_meant("s3://bucket/answers/")})
    shared = tmp_path / "shared"
    check(flow, f"file://{shared}/state", outputs={"": shared / "answers.csv"}, shared=(shared,))
    check(flow, inputs={"rows": shared / "rows.jsonl"}, shared=(shared,))


def test_a_state_of_this_machine_is_refused(flow: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder of this machine.*\n.*s3://bucket/folder"):
        check(flow, ".sundog")
    with pytest.raises(ConfigError, match=r"may be a folder of this machine alone\n.*--shared"):
        check(flow, f"file://{tmp_path}/state")
    with pytest.raises(ConfigError, match="alone"):
        check(flow, f"file://{tmp_path}/state", shared=(tmp_path / "state" / "below",))


def test_an_input_that_stays_here_is_refused(flow: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "topic": "tea"}\n')
    with pytest.raises(ConfigError, match=r"the input 'rows' reads .*rows.jsonl, which is not sent along\n.*--shared"):
        check(flow, inputs={"rows": tmp_path / "rows.jsonl"})
    (flow / ".rows.jsonl").write_text('{"id": 1, "topic": "tea"}\n')
    with pytest.raises(ConfigError, match="not sent along"):
        check(flow, inputs={"rows": flow / ".rows.jsonl"})


def test_an_input_that_is_not_there_is_told_here(flow: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        check(flow, inputs={"rows": flow / "others.jsonl"})


def test_an_output_that_nobody_would_find_is_refused(flow: Path, tmp_path: Path) -> None:
    for path in (
        Path("out.jsonl"),
        tmp_path / "out.jsonl",
        output_meant("out/"),
        output_meant(f"file://{tmp_path}/out/"),
    ):
        with pytest.raises(ConfigError, match=r"where nobody finds it\n.*sundog show last --state s3://bucket/state"):
            check(flow, outputs={"": path}, shared=(flow,))
    with pytest.raises(ConfigError, match="cannot go to stdout"):
        check(flow, outputs={"": Path("-")})
