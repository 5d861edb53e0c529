"""Plans of many nodes: what loading, rewriting and planning do grows with the nodes, not with their square.

Counted in calls of Python functions, which are the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sundog.batch.step_facts import call_facts
from sundog.flow.bind import load_flow
from sundog.ir.logical import LogicalPlan, steps_of
from sundog.operators.base import OPERATORS
from sundog.optimizer.planner import plan_physical
from sundog.optimizer.rewrite import rewrite

FEW, MANY = 25, 200
HEAD = 'name: many\nengines: {l: {kind: "null"}}\ninputs: {r: {path: rows.jsonl}}\nnodes:\n'


def llm(number: int, prompt: str, more: str = "") -> str:
    return f'  n{number}: {{llm: {{engine: l, prompt: "{prompt}"}}{more}}}\n'


def reading_all(num_nodes: int) -> str:
    return " ".join(f"{{{{ n{number}.text }}}}" for number in range(num_nodes))


def wide(n: int) -> Iterator[str]:
    yield from (llm(i, f"{i} {{{{ row.id }}}}") for i in range(n))
    yield f'outputs: {{a: "{reading_all(n)}"}}'


def chain(n: int) -> Iterator[str]:
    yield from (llm(i, f"{i} {{{{ n{i - 1}.text }}}}" if i else "{{ row.id }}") for i in range(n))
    yield f'outputs: {{a: "{{{{ n{n - 1}.text }}}}"}}'


def gathered(n: int) -> Iterator[str]:
    yield from (llm(i, f"{i} {{{{ row.id }}}}") for i in range(n - 1))
    yield llm(n - 1, reading_all(n - 1))
    yield f'outputs: {{a: "{{{{ n{n - 1}.text }}}}"}}'


def equal(n: int) -> Iterator[str]:
    yield from (llm(i, "{{ row.id }}") for i in range(n))
    yield f'outputs: {{a: "{reading_all(n)}"}}'


def equal_chains(n: int) -> Iterator[str]:
    for i in range(n):
        yield llm(i, f"{i // 2} {{{{ n{i - 2}.text }}}}" if i > 1 else "{{ row.id }}")
    yield f'outputs: {{a: "{reading_all(n)}"}}'


def conditions(n: int) -> Iterator[str]:
    yield from (llm(i, f"{i}", f', when: "{{{{ n{i - 1}.text }}}}"' if i else "") for i in range(n))
    yield f'outputs: {{a: "{{{{ n{n - 1}.text }}}}"}}'


def loop(n: int) -> Iterator[str]:
    yield "  l1:\n    loop:\n      max_turns: 2\n      nodes:\n"
    yield from ("      " + llm(i, f"{i} {{{{ row.id }}}} {{{{ loop.turn }}}}") for i in range(n))
    yield 'outputs: {a: "{{ l1 }}"}'


def filters(n: int) -> Iterator[str]:
    """Filters of a step that waits for none of them: each of them passes it."""
    yield llm(0, "{{ row.id }}")
    yield from (f'  n{i}: {{filter: "{{{{ row.id != {i} }}}}"}}\n' for i in range(1, n))
    yield 'outputs: {a: "{{ n0.text }}"}'


def filters_of_steps(n: int) -> Iterator[str]:
    """Every other node is a filter of the step before it, then come cheap ones, which go to the front."""
    for i in range(n):
        if i > n // 2:
            yield f'  n{i}: {{filter: "{{{{ row.id != {i} }}}}"}}\n'
        elif i % 2:
            yield f'  n{i}: {{filter: "{{{{ n{i - 1}.text }}}}"}}\n'
        else:
            yield llm(i, f"{i} {{{{ row.id }}}}")
    yield 'outputs: {a: "{{ n0.text }}"}'


def layered(n: int) -> Iterator[str]:
    width = 5
    for i in range(n):
        before = (i // width - 1) * width
        read = f"{{{{ n{before + i % width}.text }}}} {{{{ n{before + (i + 1) % width}.text }}}}"
        yield llm(i, f"{i} {read}" if i >= width else f"{i} {{{{ row.id }}}}")
    yield f'outputs: {{a: "{{{{ n{n - 1}.text }}}}"}}'


def loops(n: int) -> Iterator[str]:
    for i in range(n):
        yield f"  l{i}:\n    loop:\n      max_turns: 2\n      nodes:\n      {llm(i, f'{i} {{{{ loop.turn }}}}')}"
    yield 'outputs: {a: "{{ l0 }}"}'


def lists(n: int) -> Iterator[str]:
    yield from (llm(i, f"{i} {{{{ item }}}}", ', for_each: "{{ row.points }}"') for i in range(n))
    yield 'outputs: {a: "{{ n0 }}"}'


def outputs(n: int) -> Iterator[str]:
    yield llm(0, "{{ row.id }}")
    yield "outputs:\n"
    yield from (f'  o{i}: "{{{{ n0.text }}}} {i}"\n' for i in range(n))


def tools(n: int) -> Iterator[str]:
    for i in range(n):
        yield f'  n{i}: {{http: {{url: "http://host{i}/", method: POST, json: {{a: "{{{{ row.id }}}}"}}}}}}\n'
    yield 'outputs: {a: "{{ n0 }}"}'


SHAPES = [
    wide, chain, gathered, equal, equal_chains, conditions, filters, filters_of_steps, layered, lists, loop, loops,
    outputs, tools,
]  # fmt: skip


def planned(folder: Path, shape: Callable[[int], Iterator[str]], num_nodes: int) -> LogicalPlan:
    path = folder / "flow.yaml"
    path.write_text(HEAD + "".join(shape(num_nodes)))
    plan = load_flow(path)
    operators = {name: OPERATORS.get(name)(folder) for name in {step.operator for step in steps_of(plan.nodes)}}
    rewritten = rewrite(plan, operators).plan
    call_facts("f", plan_physical(rewritten, operators, written=plan).nodes)
    return rewritten


def count_calls(work: Callable[[], object]) -> int:
    count = 0

    def hear(*event: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(hear)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_grows_with_the_nodes(tmp_path: Path, shape: Callable[[int], Iterator[str]]) -> None:
    planned(tmp_path, shape, 2)  # what is loaded and kept once
    few = count_calls(lambda: planned(tmp_path, shape, FEW))
    many = count_calls(lambda: planned(tmp_path, shape, MANY))
    assert many < 1.4 * MANY / FEW * few


def test_equal_chains_are_one_chain(tmp_path: Path) -> None:
    assert [node.name for node in planned(tmp_path, equal_chains, 8).nodes] == ["n0", "n2", "n4", "n6"]


def test_a_prompt_may_have_a_thousand_parts(tmp_path: Path) -> None:
    """More than Python's limit of recursion."""
    assert len(planned(tmp_path, gathered, 600).nodes) == 600
