"""Numbers as a reader wants them: exact ones in full, estimates short and with their range.

Owns rounding and units. Never decides which numbers are shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sundog.cost.energy import JOULES_PER_KWH, Energy
from sundog.cost.estimate import Estimate

FigureFormat = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as text, with ≈ where it is not certain."""

    value: str
    #: Its range, empty where it is certain.
    span: str

    def __str__(self) -> str:
        return f"{self.value} ({self.span})" if self.span else self.value


def show_estimate(estimate: Estimate, quantity: str) -> Shown:
    """Return an estimate as text; `quantity` is one of document.QUANTITIES, whose name tells the unit."""
    form = FIGURE_FORMATS.get(quantity, count)
    if is_exact(estimate):
        return Shown(show_actual(estimate.expected, quantity), "")
    return Shown(f"≈{form(estimate.expected)}", f"{form(estimate.low)}-{form(estimate.high)}")


def show_actual(value: float, quantity: str) -> str:
    """Return a number that is certain, as it is shown."""
    form = FIGURE_FORMATS.get(quantity, count)
    return f"{value:,.0f}" if form is count else form(value)


def is_exact(estimate: Estimate) -> bool:
    return estimate.high - estimate.low <= 1e-9 * max(1.0, estimate.high)


def energy(figure: Energy) -> str:
    """Return an energy with its emissions and what it leaves out, as a phrase."""
    kwh = figure.joules / JOULES_PER_KWH
    shown = f"{count(figure.joules)} J ({kwh:.3g} kWh)"
    if figure.co2e_g is not None:
        shown += f", {figure.co2e_g:,.3g} g CO2e"
    return shown + (f"; without {', '.join(figure.leaves_out)}" if figure.leaves_out else "")


def count(value: float) -> str:
    """Return 1,234, 12.3k or 1.23M."""
    if value < 9_999.5:
        return f"{value:,.0f}"
    for factor, letter in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if value < 999.5 * factor or letter == "G":
            scaled = value / factor
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:,.{digits}f}{letter}"
    raise AssertionError("the last letter takes all")


def seconds(value: float) -> str:
    """Return 0.123, 1.2 or 123."""
    if value < 0.9995:
        return f"{value:.3f}"
    if value < 99.95:
        return f"{value:.1f}"
    return f"{value:,.0f}"


def dollars(value: float) -> str:
    return f"${value:,.4f}" if value < 0.9995 else f"${value:,.2f}"


FIGURE_FORMATS: dict[str, FigureFormat] = {"seconds": seconds, "makespan": seconds, "usd": dollars}
