"""Energy, emissions and the optimum, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from sundog.cost.energy import Energy, Power, energy_of, total_energy
from sundog.cost.optimum import Compute, share_of_optimum

SITE = ("cooling and the rest of the site (PUE)", "emissions (the grid's factor)")


@pytest.mark.parametrize(
    ("power", "busy_s", "idle_s", "expected"),
    [
        # 1 kWh at 700 W and 0.1 kWh at 70 W, times 1.5, at 400 g.
        (Power(700, 70, 1.5, 400), 3.6e6 / 700, 3.6e5 / 70, Energy(1.65 * 3.6e6, 660.0, ())),
        (Power(700, 70), 10, 10, Energy(7700, None, SITE)),
        (Power(700), 10, 10, Energy(7000, None, ("idle time", *SITE))),
        (Power(700, None, 1.0, 0.0), 10, 0, Energy(7000, 0.0, ())),
    ],
)
def test_energy_and_what_it_leaves_out(power: Power, busy_s: float, idle_s: float, expected: Energy) -> None:
    found = energy_of(power, busy_s, idle_s)
    assert found.joules == pytest.approx(expected.joules)
    assert found.co2e_g == pytest.approx(expected.co2e_g)
    assert found.leaves_out == expected.leaves_out


def test_the_sum_of_engines_has_emissions_where_all_have() -> None:
    one, other = Energy(10, 2.0, ("idle time",)), Energy(5, 1.0, ("idle time",))
    assert total_energy([one, other]) == Energy(15, 3.0, ("idle time",))
    assert total_energy([one, Energy(5, None, SITE)]).co2e_g is None


@pytest.mark.parametrize(
    "values", [(-1.0,), (float("nan"),), (1.0, -1.0), (1.0, 1.0, 0.9), (1.0, 1.0, 1.0, float("inf"))]
)
def test_impossible_watts_are_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"watts|PUE"):
        Power(*values)


def test_the_optimum_of_nanoflow() -> None:
    """260 Tflops a GPU and 70 billion parameters are 1,857 tokens a second, which the paper gives for Llama 2 70B."""
    compute = Compute(peak_flops=8 * 260e12, num_parameters=70e9)
    assert compute.optimal_tokens_per_s / 8 == pytest.approx(1857, abs=1)
    assert share_of_optimum(compute, num_computed_tokens=compute.optimal_tokens_per_s * 3, replica_s=6) == 0.5
    with pytest.raises(ValueError, match="more than 0"):
        Compute(0, 1)
