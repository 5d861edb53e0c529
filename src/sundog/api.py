"""sundog for Python: build or load a flow, explain it, simulate it, run it, read what came out.

Owns the public classes and functions. Everything that a run does is behind sundog.session.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, cast, get_args

from pydantic_core import from_json

from sundog.config import Config, read_config
from sundog.errors import ConfigError, suggest
from sundog.flow.agents.server_lists import ASKED_LISTS, ServerLists
from sundog.flow.prompt_file import prompt_file
from sundog.flow.python.builder import FlowBuilder
from sundog.flow.python.nodes_builder import args, item, row
from sundog.ir.logical import LogicalPlan
from sundog.result.notebook import NotebookText, Page
from sundog.result.run_result import Result, Row
from sundog.result.simulation import Simulation
from sundog.runtime.drive import Drive, ended_rows
from sundog.runtime.rows.outputs import Output
from sundog.runtime.rows.row_choice import RowChoice
from sundog.runtime.run import Run
from sundog.runtime.run_options import RunOptions
from sundog.session.choices import PlanChoices, Rewriting
from sundog.session.flow_file import load_plan
from sundog.session.kept_lists import KeptLists
from sundog.session.output_names import outputs_named
from sundog.session.session import Session, plan_session
from sundog.whatif.variant_options import VariantOptions, option_line

if TYPE_CHECKING:
    from sundog.display import Display
    from sundog.runtime.row_work import OpenWork

__all__ = [
    "Flow",
    "FlowFile",
    "Result",
    "Row",
    "Simulation",
    "args",
    "explain",
    "item",
    "load",
    "prompt_file",
    "row",
    "run",
    "simulate",
]

STOPPING = "stopping: calls that run are finished and kept; interrupt once more to stop at once"
ExplainForm = Literal["text", "json", "html"]


class PlanOptions(TypedDict, total=False):
    """These options choose the rows and how they are planned, as those of `sundog run` do."""

    #: The state folder.
    state: str | Path | None
    limit: int | None
    sample: int | None
    seed: int
    policy: str | None
    max_rows_in_flight: int | None
    #: The rules that --no-rule would name.
    without_rules: Sequence[str]
    naive: bool
    objective: str | None
    placement: str
    #: The address of a `sundog serve` whose models are asked.
    via: str | None


class Options(PlanOptions, total=False):
    """These options say how to run, as those of `sundog run` do."""

    #: A path, or one for each result (and any other table) of a flow with tables. Text that ends with a slash is a
    #: folder of parts, here or at a URL.
    output: str | Path | Mapping[str, str | Path] | None
    fresh: bool
    max_errors: int | None
    retry_failed: bool
    repeat_unknown_effects: bool
    repeat_effects: bool
    max_usd: float | None
    max_tokens: int | None
    #: Seconds after the run began, or text as in `2h`.
    deadline: float | str | None
    #: The rows of each table are written into at most so many files first, 1 or more, which a continued run reads.
    buckets: int | None


class WatchedOptions(Options, total=False):
    """These options add how a run is shown."""

    #: Show how the run goes; None does on a terminal and in a notebook.
    progress: bool | None
    #: `ray` lets the cells of a Ray cluster work on the rows; None this process.
    on: Literal["ray"] | None
    #: With `on`: the cluster, HOST:PORT on one of its nodes; None for RAY_ADDRESS, or the Ray of this machine.
    address: str | None
    #: With `on`: processes that work on rows, at least 1; None for what nodes and engines need.
    cells: int | None
    #: With `on`: pools of engines grow until the run ends so soon: seconds, or text as in `2h`.
    finish_in: float | str | None


class SimulateOptions(VariantOptions, total=False):
    """These options say what is simulated, as those of `sundog simulate` do."""

    #: Further variants, each on top of the other options.
    compare: Sequence[VariantOptions]
    #: Find the fewest machines that end in this time: seconds, or text as in `2h`.
    deadline: float | str | None
    #: An arrival process, as in `poisson:5/s`, or the path of a trace.
    arrivals: str | Path
    #: The run that is replayed: its id, as much of it as no other begins with, or `last`.
    log: str | None
    #: The state folder.
    state: str | Path | None
    objective: str | None
    placement: str


class Runnable:
    """A flow that can be run. The options of `run`, `arun` and `stream` are those of `sundog run`: output, limit,
    sample, seed, fresh, state, max_errors, retry_failed, repeat_unknown_effects, repeat_effects, max_usd, max_tokens,
    deadline, policy, max_rows_in_flight, without_rules, naive, objective, placement. `run` and `arun` show how the run
    goes on a terminal and in a notebook, unless `progress=False`.

    As on the command line, the same flow over the same rows to the same output is one run: what was interrupted
    is continued, what is finished is given back without calling anything, unless `fresh=True`.
    """

    base_dir: Path

    def plan(self) -> LogicalPlan:
        """Return the logical plan; FlowError for whatever is wrong in the flow."""
        return self.planned_with(ASKED_LISTS)

    def planned_with(self, lists: ServerLists) -> LogicalPlan:
        """Return the logical plan as `plan` does. `lists`: gives the tools of servers."""
        raise NotImplementedError

    def run(self, **options: Unpack[WatchedOptions]) -> Result:
        """Run the flow and wait for it. Works inside a running event loop, as in a notebook: the run has its own
        loop in its own thread. Ctrl-C, or a notebook's stop button, lets running calls end and raises RunStopped, a
        second one stops at once."""
        display = _display(options)
        drive = Drive(lambda: display.note(STOPPING))
        return drive.in_thread(self._execute(options, display, drive.begin))

    async def arun(self, **options: Unpack[WatchedOptions]) -> Result:
        """Run the flow on the running loop. Opening it reads the inputs, which blocks the loop for that long."""
        return await self._execute(options, _display(options))

    async def stream(self, **options: Unpack[Options]) -> AsyncGenerator[Row, None]:
        """Yield the output rows as they finish, those of an earlier part of the run first. Leaving early lets running
        calls end and keeps what is finished. A slow reader slows the run down, so that memory stays bounded."""
        session = self._session(options, Options.__optional_keys__)
        run_options = _run_options(options, session.flow.written)
        with session.open_run(run_options) as opened:
            for ref, columns in opened.rows():
                yield Row(ref, columns)
            results = session.plan.logical.results
            async with aclosing(ended_rows(opened)) as ends:
                async for end in ends:
                    if end.state == "done" and end.row.table in results:
                        yield Row(end.row, from_json(end.body))

    def explain(
        self,
        format: ExplainForm = "text",
        *,
        on: Literal["ray"] | None = None,
        cells: int | None = None,
        **options: Unpack[PlanOptions],
    ) -> NotebookText:
        """Return the plans, and what a run will take: as text, as JSON text, or as a page of HTML, which a notebook
        shows. `on`: also how the plan is spread over many machines, in so many `cells`; None for what nodes and engines
        need. Reads the inputs, runs no step, connects to no cluster."""
        if format not in get_args(ExplainForm):
            raise TypeError(f"format must be one of: {', '.join(get_args(ExplainForm))}; not {format!r}")
        from sundog.explanation.explanation import Explanation
        from sundog.session.machines import machines_asked

        machines = machines_asked(on, cells, options.get("state"))
        explanation = Explanation(self._session(options, PlanOptions.__optional_keys__))
        shown = explanation.shown(explanation.document(machines), format)
        return Page(shown) if format == "html" else NotebookText(shown)

    def simulate(self, **options: Unpack[SimulateOptions]) -> Simulation:
        """Simulate the flow with other machines, another policy or a failure: the scheduler of a run decides, over
        modelled engines and tools in virtual time. Reads the inputs, runs nothing. The options are those of
        `sundog simulate`: rows, replicas, workers, policy, max_rows_in_flight, engine_profile, fail, autoscale,
        split_phases, compare, deadline, arrivals, log, state, objective, placement.

        >>> import tempfile
        >>> flow = Flow("study")
        >>> local = flow.engine("local", kind="null", max_concurrency=4, step_time=[0.1, 0, 0, 0, 0], output_tokens=6)
        >>> rows = flow.input("rows", rows=[{"id": number} for number in range(64)])
        >>> flow.output(text=flow.llm("ask", engine=local, prompt=f"About {rows.id}.", max_tokens=8).text)
        >>> with tempfile.TemporaryDirectory() as state:
        ...     found = flow.simulate(state=state, compare=[{"replicas": {"local": 2}}, {"rows": 640}])
        >>> [(one.title, one.num_executed, one.machines) for one in found.variants]
        [('as planned', 64, {'local': 1}), ('--replicas local=2', 64, {'local': 2}), ('--rows 640', 640, {'local': 1})]
        """
        _check_known(options, SimulateOptions.__optional_keys__)
        from sundog.whatif.question import Question
        from sundog.whatif.variant import Variant, read_variant

        variant = {name: value for name, value in options.items() if name in VariantOptions.__optional_keys__}
        deadline = options.get("deadline")
        question = Question(
            replace(read_variant(option_line(variant), Variant()), title=Variant().title),
            tuple(option_line(one) for one in options.get("compare", ())),
            _seconds(deadline),
            str(options.get("arrivals", "")),
            options.get("log"),
        )
        choices = PlanChoices(objective=options.get("objective"), placement=options.get("placement", "auto"))
        return Simulation(question.answer(self.plan(), self.base_dir, _config(options), choices))

    async def _execute(
        self, options: WatchedOptions, display: Display, on_open: Callable[[Run], None] | None = None
    ) -> Result:
        """Execute the run; `on_open` is called with it before."""
        from sundog.display import watching

        # A clean terminal is left also where the run is refused before it begins.
        with closing(display):
            session = self._session(options, WatchedOptions.__optional_keys__)
            run_options = _run_options(options, session.flow.written)
            with (
                _working_means(options, run_options.state_dir, self.base_dir) as means,
                session.open_run(run_options, means) as opened,
            ):
                if on_open is not None:
                    on_open(opened)
                for finding in opened.findings:
                    display.note(f"warning: {finding}")
                async with watching(opened.progress, display, partial(session.estimates.planned_calls, opened.record)):
                    report = await opened.execute(on_note=display.note)
        plan = session.plan.logical
        named = dict.fromkeys((*plan.results, *run_options.outputs))
        columns = {name: tuple(column for column, _ in plan.table(name).outputs) for name in named}
        return Result(run_options.state_dir, report, columns)

    def _session(self, options: PlanOptions, known: frozenset[str]) -> Session:
        """Raise TypeError for an option that is not `known`."""
        _check_known(options, known)
        config = _config(options)
        lists = KeptLists(config, is_fresh=bool(options.get("fresh")))
        plan = self.planned_with(lists)
        choices = replace(_plan_choices(options), outputs=tuple(_outputs(cast(Options, options), plan)))
        return plan_session(plan, self.base_dir, config, choices, lists)


class Flow(FlowBuilder, Runnable):
    """A flow built in Python: `flow.input(...)`, `flow.llm(...)`, ..., `flow.output(...)`, then `flow.run()`."""


class FlowFile(Runnable):
    """A flow file; `inputs` reads inputs from other paths, counted from the working directory."""

    def __init__(self, path: str | Path, inputs: Mapping[str, str | Path] | None = None) -> None:
        self.path = Path(path)
        self.base_dir = self.path.parent
        self._inputs = dict(inputs or {})

    def planned_with(self, lists: ServerLists) -> LogicalPlan:
        return load_plan(self.path, self._inputs, lists)


def load(path: str | Path, inputs: Mapping[str, str | Path] | None = None) -> FlowFile:
    """Return the flow in a file. FlowError for whatever is wrong in it."""
    flow = FlowFile(path, inputs)
    flow.plan()
    return flow


def run(path: str | Path, inputs: Mapping[str, str | Path] | None = None, **options: Unpack[WatchedOptions]) -> Result:
    """Run a flow file; see `Runnable.run`."""
    return FlowFile(path, inputs).run(**options)


def explain(
    path: str | Path,
    inputs: Mapping[str, str | Path] | None = None,
    format: ExplainForm = "text",
    *,
    on: Literal["ray"] | None = None,
    cells: int | None = None,
    **options: Unpack[PlanOptions],
) -> NotebookText:
    """Return the plans of a flow file; see `Runnable.explain`."""
    return FlowFile(path, inputs).explain(format, on=on, cells=cells, **options)


def simulate(
    path: str | Path, inputs: Mapping[str, str | Path] | None = None, **options: Unpack[SimulateOptions]
) -> Simulation:
    """Simulate a flow file; see `Runnable.simulate`."""
    return FlowFile(path, inputs).simulate(**options)


def _check_known(options: Mapping[str, object], known: frozenset[str]) -> None:
    """Raise TypeError for an option that is not `known`."""
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option '{name}': {suggest(name, known)}")


def _display(options: WatchedOptions) -> Display:
    from sundog.display import open_live_display

    return open_live_display(options.get("progress"))


def _config(options: PlanOptions | SimulateOptions) -> Config:
    return read_config(options.get("state"))


def _plan_choices(options: PlanOptions) -> PlanChoices:
    return PlanChoices(
        RowChoice(options.get("limit"), options.get("sample"), options.get("seed", 0)),
        Rewriting(tuple(options.get("without_rules", ())), options.get("naive", False)),
        options.get("policy"),
        options.get("max_rows_in_flight"),
        options.get("objective"),
        options.get("placement", "auto"),
        via=options.get("via"),
    )


def _outputs(options: Options, plan: LogicalPlan) -> dict[str, Output]:
    """Return the outputs by table."""
    output = options.get("output")
    written = [] if output is None else [output] if isinstance(output, str | Path) else list(output.items())
    return outputs_named(plan, written)


def _run_options(options: Options, plan: LogicalPlan) -> RunOptions:
    return RunOptions(
        _config(options).state_dir,
        _outputs(options, plan),
        options.get("fresh", False),
        options.get("max_errors"),
        options.get("retry_failed", False),
        options.get("repeat_unknown_effects", False),
        options.get("repeat_effects", False),
        options.get("max_usd"),
        options.get("max_tokens"),
        _seconds(options.get("deadline")),
        _num_buckets(options.get("buckets")),
    )


def _num_buckets(asked: int | None) -> int | None:
    if asked is not None and asked < 1:
        raise ConfigError(
            f"the rows cannot be written into {asked} buckets", hint="ask for 1 or more, or leave it away"
        )
    return asked


@contextmanager
def _working_means(options: WatchedOptions, state_dir: Path, base_dir: Path) -> Iterator[OpenWork | None]:
    """Yield the means by which a cluster works on rows; None for this process."""
    if options.get("on") is None:
        for name in ("address", "cells", "finish_in"):
            if options.get(name) is not None:
                raise TypeError(f"{name} is of a run on a cluster: say on='ray', or leave it away")
        yield None
        return
    if options.get("on") != "ray":
        raise TypeError(f"on is 'ray' or None, not {options.get('on')!r}")
    from sundog.ray.connection import chosen_address
    from sundog.ray.on_ray import work_on_ray
    from sundog.ray.options import RayOptions

    finish_in_s = _seconds(options.get("finish_in"), "finish_in")
    asked = RayOptions(chosen_address(options.get("address")), options.get("cells"), finish_in_s)
    with work_on_ray(asked, state_dir, base_dir) as means:
        yield means


def _seconds(duration: float | str | None, option: str = "--deadline") -> float | None:
    """Return a duration as seconds."""
    from sundog.whatif.duration import read_duration

    return read_duration(option, duration) if isinstance(duration, str) else duration
