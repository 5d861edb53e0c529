"""The run that a command means, opened: found or begun, and locked against other processes.

Owns what makes two commands mean one run. What a run does is in runtime.run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from sundog.deployment import identities
from sundog.ir.logical import steps_of
from sundog.ir.physical import PhysicalPlan
from sundog.ir.values.canonical import canonical_json, describe_value
from sundog.operators.base import ModularOperator, Operator
from sundog.private_files import make_private_folder, open_private
from sundog.runtime.row_work import OpenWork
from sundog.runtime.rows.outputs import output_identity
from sundog.runtime.run import Run
from sundog.runtime.run_identity import OpenInputs, RunCommand, select_run
from sundog.runtime.run_options import RunOptions
from sundog.secrets import Secrets
from sundog.store.runs import RunList
from sundog.store.store import Store

PLAN_FILE = "plan.json"
"""In the folder of a run, its plan in the form of `describe_value`."""


@contextmanager
def open_run(
    plan: PhysicalPlan,
    open_inputs: OpenInputs,
    inputs: Mapping[str, Any],
    operators: Mapping[str, Operator],
    secrets: Secrets,
    options: RunOptions,
    open_work: OpenWork,
) -> Iterator[Run]:
    """The run that this command means, locked against other processes while open. `inputs`: how the rows are
    chosen beyond the plan (limit, sample), as JSON types. `open_work`: the means by which its rows are worked on."""
    store = Store(options.state_dir)
    try:
        runs = RunList(store, options.state_dir)
        outputs = {table: output_identity(output) for table, output in options.outputs.items()}
        plan_parts = replace(plan.written, engines=(), workers=(), objective="")
        effects, modules = _effects_and_modules(plan, operators)
        command = RunCommand(
            {
                "plan": describe_value(plan_parts),
                "engines": identities(plan),
                "inputs": inputs,
                "outputs": outputs,
            },
            plan.logical.name,
            ", ".join(outputs.values()),
            effects,
            modules,
            is_fresh=options.is_fresh,
            retries_failed=options.retry_failed,
            repeats_effects=options.repeat_effects,
        )
        with runs.lock(command.key):
            selected = select_run(runs, command, open_inputs)
            yield Run(plan, selected, store, runs, operators, secrets, options, open_work)
    finally:
        store.close()


def keep_plan(run: Run) -> None:
    """Write the plan of a run into its folder for whoever watches it, unless it is there: whole, or not at all."""
    path = run.folder / PLAN_FILE
    if path.exists():
        return
    plan = run.plan
    told = {"tables": plan.tables, "inputs": plan.logical.inputs, "results": plan.logical.results}
    make_private_folder(run.folder)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with os.fdopen(open_private(part, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(canonical_json(describe_value(told)))
    part.replace(path)
    run.keep_file(PLAN_FILE)


def _effects_and_modules(
    plan: PhysicalPlan, operators: Mapping[str, Operator]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what its steps change outside, and the files of the flow's folder that their functions are in."""
    effects: dict[str, Any] = {}
    modules: dict[str, str] = {}
    for step in steps_of(plan.written.nodes):
        operator = operators[step.operator]
        if operator.traits(step.spec).is_effect:
            effects[step.name] = describe_value(step)
        if hasattr(operator, "modules"):
            modules |= cast(ModularOperator, operator).modules(step.spec)
    return effects, modules
