"""sundog: the workload's flow file, with the case's engines, rows and addresses put in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import sundog as sd
from halo.arms.catalog import FlowArm
from halo.calls import MAX_TOOL_CALLS
from halo.case import Case
from halo.graph import Row
from halo.known_engines import keep_known_loads
from halo.workloads.catalog import FLOWS
from halo.workloads.dialect import adapt
from sundog.config import read_config
from sundog.ir.logical import steps_of
from sundog.runtime.figures.report import Report
from sundog.session.choices import PlanChoices, Rewriting
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session

SERVER = "http://127.0.0.1:8731"


async def run_flow(
    case: Case, rows: Sequence[Row], base_url: str, folder: Path, arm: FlowArm
) -> tuple[list[Any], Report]:
    """One value or one failure for each row, in order, and the report of the run."""
    flow = sd.load(write_flow(case, rows, base_url, folder, arm))
    result = await flow.arun(
        state=state_of(folder), naive=arm.is_naive, without_rules=arm.without_rules, policy=arm.policy
    )
    values: dict[int, Any] = {row.row_index: row["answer"] for row in result}
    values |= {failure["row"]: RuntimeError(f"{failure['node']}: {failure['cause']}") for failure in result.errors}
    return [values[number] for number in range(len(rows))], result.report


def planning_s(path: Path, arm: FlowArm, clock: Callable[[], float]) -> float:
    """Return the seconds that it takes to read, rewrite, plan and place the flow; `run_flow` does it once more."""
    begin_s = clock()
    rewriting = Rewriting(arm.without_rules, arm.is_naive)
    config = replace(read_config(), state_dir=state_of(path.parent))
    session = plan_session(
        load_plan(path, {}), path.parent, config, PlanChoices(rewriting=rewriting, policy=arm.policy)
    )
    if session.plan.logical.workers:
        session.estimates.placing()
    return clock() - begin_s


def write_flow(case: Case, rows: Sequence[Row], base_url: str, folder: Path, arm: FlowArm) -> Path:
    """The flow file of this case in `folder`, as the arm wants it, with everything it needs beside it."""
    yaml = YAML(typ="safe")
    flow = yaml.load((FLOWS / f"{case.workload}.yaml").read_text())
    flow |= engines_of(case, arm)
    places = {"sql": case.database.partition("?")[0], "http": base_url}
    used = {place for kind, place in places.items() if any(kind in node for node in flow["nodes"].values())}
    flow["limits"] = {place: {"max_concurrency": MAX_TOOL_CALLS} for place in sorted(used)}
    for node in flow["nodes"].values():
        if "sql" in node:
            node["sql"] |= {"database": case.database, "query": adapt(node["sql"]["query"], case.database)}
        if "http" in node:
            node["http"]["url"] = node["http"]["url"].replace(SERVER, base_url)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(FLOWS / "parameters.py", folder)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "flow.yaml"
    # JSON is YAML, and says every text as it is.
    path.write_text(json.dumps(flow, indent=1))
    if "workers" in flow:
        keep_known_loads(case, path, state_of(folder))
    return path


def state_of(folder: Path) -> Path:
    """The state folder of a flow in `folder`."""
    return folder / "state"


def engines_of(case: Case, arm: FlowArm) -> dict[str, Any]:
    """The flow's engines, and the workers on which it may put them."""
    hidden = set() if arm.has_slices else {"shared_device"}
    group: dict[str, Any] = {}
    if case.num_workers and arm.has_placement:
        hidden.add("replicas")
        group = {"workers": "gpu"}
    blocks = {
        model: {key: value for key, value in block.items() if key not in hidden} | group
        for model, block in case.blocks.items()
    }
    return {"engines": blocks, **({"workers": {"gpu": {"count": case.num_workers}}} if group else {})}


def operators_of(case: Case) -> dict[str, str]:
    """The operator of each step by its name."""
    plan = load_plan(FLOWS / f"{case.workload}.yaml", {})
    return {step.name: step.operator for step in steps_of(plan.nodes)}
