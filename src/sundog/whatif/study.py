"""A flow's study: variants of it, each planned, estimated and simulated.

Owns the way from a variant to its outcome. What is simulated and how is sim's; what a plan costs is the session's.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from sundog.batch.follower import PlacementWithFigures
from sundog.config import Config
from sundog.cost.estimate import Estimate
from sundog.cost.plan_estimate import PlanEstimate, SampledPlan, estimate_plan
from sundog.errors import ConfigError
from sundog.ir.logical import LogicalPlan
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import engine_pool
from sundog.runtime.rows.row_choice import RowChoice
from sundog.session.choices import PlanChoices
from sundog.session.session import Session, plan_session
from sundog.sim.choice import chosen_placement
from sundog.sim.failures import check_apart, read_failure
from sundog.sim.plan_workload import workload_of
from sundog.sim.simulate import Simulated, simulate_load
from sundog.sim.workload import FollowedPlan, decode_pool
from sundog.whatif.assumed import Assumed, without_effect
from sundog.whatif.autoscale import scaling_notes, with_autoscaling
from sundog.whatif.offered import OfferedLoad
from sundog.whatif.profiled import profile_notes, require_rooms, with_profiles
from sundog.whatif.split import split_notes, with_splits
from sundog.whatif.variant import Variant

BATCH = OfferedLoad()


@dataclass(frozen=True, slots=True)
class VariantOutcome:
    """One variant, simulated."""

    variant: Variant
    plan: PhysicalPlan
    #: Where steps run, of a plan with workers.
    placing: PlacementWithFigures | None
    sampled: SampledPlan
    estimate: PlanEstimate
    simulated: Simulated
    makespan_s: Estimate
    #: Sentences that say what was assumed.
    assumptions: tuple[str, ...]
    #: Rows wait for nothing but room, and do not come over time.
    is_batch: bool = True


class Study:
    """Variants of one flow. `written`: its plan; `choices` and `load`: those that no variant changes."""

    def __init__(
        self,
        written: LogicalPlan,
        base_dir: Path,
        config: Config,
        choices: PlanChoices,
        load: OfferedLoad = BATCH,
    ) -> None:
        self._written = written
        self._base_dir = base_dir
        self._config = config
        self._choices = choices
        self._load = load

    @property
    def written(self) -> LogicalPlan:
        return self._written

    def outcome(self, variant: Variant) -> VariantOutcome:
        """Simulate a variant. ConfigError for what the flow does not have, InputError for rows that cannot be read."""
        run = self._load.run
        choices = replace(
            self._choices,
            rows=_first_rows(self._choices.rows, variant.num_rows),
            policy=variant.policy or self._choices.policy or (None if run is None else run.policy),
            max_rows_in_flight=(
                variant.max_rows_in_flight
                or self._choices.max_rows_in_flight
                or (None if run is None else run.max_rows_in_flight)
            ),
        )
        session = plan_session(variant.applied(self._written), self._base_dir, self._config, choices)
        with closing(session.rows):
            costs = session.estimates.costs(session.rows.as_written(), variant.num_rows)
            sampled = with_profiles(costs.sampled(session.plan), variant.profiles)
        estimate = estimate_plan(sampled)
        require_rooms(sampled, estimate.nodes, variant.profiles)
        if not sampled.num_rows:
            raise ConfigError(
                "there are no rows, so there is nothing to simulate", hint="give the flow some input rows"
            )
        return self._simulated(session, variant, sampled, estimate)

    def _simulated(
        self, session: Session, variant: Variant, sampled: SampledPlan, estimate: PlanEstimate
    ) -> VariantOutcome:
        plan, figures = session.plan, session.estimates.figures_of(estimate)
        placing = self._load.placing(plan, figures, variant) or chosen_placement(plan, sampled, estimate, figures)
        workload = workload_of(
            plan,
            sampled,
            estimate.nodes,
            sampled.num_rows,
            loads_s=figures.load_s,
            followed=None if placing is None else FollowedPlan(plan, placing),
        )
        offered = self._load.offered(workload, plan, variant)
        pools = {block.name: engine_pool(block.name) for block in plan.logical.engines}
        is_batch = self._load.is_batch
        split = with_splits(offered.workload, variant.splits, sampled)
        scaled = with_autoscaling(split, variant.autoscale, estimate.nodes, figures.load_s, is_batch=is_batch)
        named = pools | {decode_pool(name): decode_pool(pools[name]) for name in variant.splits}
        failures = [read_failure(text, scaled.engines, named) for text in variant.failures]
        check_apart(failures)
        simulated = simulate_load(scaled, plan.policy, failures)
        has_own_calls = self._load.has_own_calls
        assumed = Assumed(sampled, estimate, frozenset() if self._load.run else session.estimates.assumed_loads())
        notes = (
            *offered.notes(),
            *profile_notes(sampled, variant.profiles),
            *scaling_notes(scaled, variant.autoscale),
            *split_notes(scaled, variant.splits),
            *(assumed.load_notes(simulated) if has_own_calls else assumed.notes(simulated)),
            *without_effect(variant, plan, failures, simulated),
        )
        makespan_s = assumed.makespan_s(simulated, plan, has_own_calls=has_own_calls)
        return VariantOutcome(variant, plan, placing, sampled, estimate, simulated, makespan_s, notes, is_batch)


def _first_rows(choice: RowChoice, num_rows: int | None) -> RowChoice:
    """Return the choice of rows that stand for `num_rows`: of fewer than there are, the first."""
    return choice if num_rows is None else replace(choice, limit=min(num_rows, choice.limit or num_rows))
