"""The example for clusters: its flow is run; its manifest and its Dockerfile are read, and never built or applied. On a
cluster the flow is run by tests/ray."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement
from ruamel.yaml import YAML
from typer.main import get_command

from sundog.cli.main import app
from tests.cli.flows import report_of, sundog
from tests.examples.stage import EXAMPLES, read_rows

FOLDER = EXAMPLES / "cluster"
ROOT = EXAMPLES.parent
INSTRUCTIONS = {"FROM", "COPY", "RUN", "WORKDIR", "ENV", "USER", "ARG"}


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load((FOLDER / "rayjob.yaml").read_text())
    return found


def pods() -> Iterator[dict[str, Any]]:
    cluster = manifest()["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


def instructions() -> list[tuple[str, list[str]]]:
    """The Dockerfile's instructions with their words, options left out."""
    text = re.sub(r"\\\n", " ", (FOLDER / "Dockerfile").read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, [word for word in shlex.split(rest) if not word.startswith("--")]) for name, rest in lines]


def given(words: list[str]) -> dict[str, Any]:
    """The options of `sundog run`, as the command reads them."""
    command: Any = get_command(app)
    with command.make_context("sundog", words) as context:
        name, run, rest = command.resolve_command(context, words)
        assert name == "run"
        with run.make_context(name, rest, parent=context) as of_run:
            return dict(of_run.params)


def test_the_flow_runs(tmp_path: Path) -> None:
    flow = FOLDER / "flow.yaml"
    ran = sundog(tmp_path, "run", str(flow), "--output", "out.jsonl", "--json")
    assert ran.exit_code == 0, ran.stderr
    rows = read_rows(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == list(range(24))
    assert {row["kind"] for row in rows} <= {"question", "defect", "refund"}
    [notes] = [node for node in report_of(ran)["nodes"] if node["node"] == "notes"]
    assert (notes["num_asked"], notes["num_executed"]) == (24, 4)


def test_the_manifest_has_what_kuberay_needs() -> None:
    """The fields are those of RayJob in ray.io/v1."""
    found = manifest()
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", found["metadata"]["name"])
    spec = found["spec"]
    assert spec.keys() == {
        "entrypoint",
        "backoffLimit",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "rayClusterSpec",
    }
    assert isinstance(spec["backoffLimit"], int)
    assert spec["shutdownAfterJobFinishes"] is True
    cluster = spec["rayClusterSpec"]
    assert cluster.keys() == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    for group in cluster["workerGroupSpecs"]:
        assert group["groupName"]
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "they are words of a command"
    for pod in pods():
        [container] = pod["containers"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["envFrom"] == [{"secretRef": {"name": "sundog"}}]


def test_the_cells_have_room() -> None:
    """A cell takes one processor of a worker."""
    spec = manifest()["spec"]
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    room = group["minReplicas"] * int(container["resources"]["requests"]["cpu"])
    assert given(shlex.split(spec["entrypoint"])[1:])["cells"] <= room


def test_the_command_is_one_that_sundog_takes() -> None:
    words = shlex.split(manifest()["spec"]["entrypoint"])
    assert words[0] == "sundog"
    options = given(words[1:])
    assert options["on"] == "ray"
    assert str(options["state"]).startswith("s3://")
    assert options["address"] is None, "the job runs on the head"


def test_the_image_has_what_the_manifest_names() -> None:
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert found[0][0] == "FROM"
    tag = found[0][1][0].partition(":")[2]
    assert tag == f"{manifest()['spec']['rayClusterSpec']['rayVersion']}-py311"
    copied: dict[PurePosixPath, str] = {}
    for name, words in found:
        if name == "COPY":
            *sources, target = words
            for source in sources:
                assert (ROOT / source).exists(), f"the Dockerfile copies {source}"
                copied[PurePosixPath(target) / PurePosixPath(source).name] = source
    flow = given(shlex.split(manifest()["spec"]["entrypoint"])[1:])["flow"]
    assert copied[PurePosixPath(flow)] == "examples/cluster/flow.yaml"
    assert copied[PurePosixPath(flow).parent / "tickets.csv"] == "examples/cluster/tickets.csv"
    assert len({container["image"] for pod in pods() for container in pod["containers"]}) == 1


def test_the_version_of_ray_is_one_that_sundog_takes() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [wanted] = [Requirement(one) for one in extras["ray"] if one.startswith("ray")]
    assert manifest()["spec"]["rayClusterSpec"]["rayVersion"] in wanted.specifier
