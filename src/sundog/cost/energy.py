"""Energy and emissions: the watts of a replica, and what a simulated or a real batch comes to with them.

Owns the arithmetic. Never measures, and never assumes a figure that was not given: what is unknown is left out by name.

    joules = (busy seconds * busy watts + idle seconds * idle watts) * PUE        grams = joules / 3.6e6 * grams per kWh

as in Patterson et al. 2021 (arXiv 2104.10350): hours x devices x average watts x PUE, times the grid's factor.
"""

from __future__ import annotations

from dataclasses import dataclass

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Power:
    """The watts of one replica, all its devices together."""

    #: On average while steps run.
    busy_w: float
    #: While it is up and runs nothing; None where nobody measured it.
    idle_w: float | None = None
    #: Power usage effectiveness: the site's energy for each joule of the devices, at least 1; None where unknown.
    pue: float | None = None
    #: Grams of CO2 equivalent that the grid emits for a kWh; None where unknown.
    grid_gco2e_per_kwh: float | None = None
    #: The name of who measured the watts.
    source: str = ""

    def __post_init__(self) -> None:
        watts = [self.busy_w, self.idle_w, self.grid_gco2e_per_kwh]
        if any(value is not None and not 0 <= value < float("inf") for value in watts):
            raise ValueError("watts and grams are finite and not negative")
        if self.pue is not None and not 1 <= self.pue < float("inf"):
            raise ValueError("the PUE is at least 1")


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of a batch and its emissions."""

    joules: float
    #: Grams of CO2 equivalent; None where the grid's factor is unknown.
    co2e_g: float | None
    #: Parts that the figures do not hold because nobody told them, for the reader.
    leaves_out: tuple[str, ...]


def energy_of(power: Power, busy_s: float, idle_s: float) -> Energy:
    """Return the energy of replicas that ran steps for `busy_s` and were up without work for `idle_s`, each summed over
    the replicas.

    >>> energy_of(Power(busy_w=700, idle_w=70, pue=1.5, grid_gco2e_per_kwh=400), busy_s=3600, idle_s=3600)
    Energy(joules=4158000.0, co2e_g=462.0, leaves_out=())
    """
    assert busy_s >= 0, "time is not negative"
    assert idle_s >= 0, "time is not negative"
    joules = (busy_s * power.busy_w + idle_s * (power.idle_w or 0.0)) * (power.pue or 1.0)
    factor = power.grid_gco2e_per_kwh
    left_out = {
        "idle time": power.idle_w is None and idle_s > 0,
        "cooling and the rest of the site (PUE)": power.pue is None,
        "emissions (the grid's factor)": factor is None,
    }
    co2e_g = None if factor is None else joules / JOULES_PER_KWH * factor
    return Energy(joules, co2e_g, tuple(what for what, is_out in left_out.items() if is_out))


def total_energy(parts: list[Energy]) -> Energy:
    """Return the sum over engines; its emissions are known where those of all are."""
    grams = [part.co2e_g for part in parts if part.co2e_g is not None]
    left_out = tuple(dict.fromkeys(what for part in parts for what in part.leaves_out))
    joules = sum(part.joules for part in parts)
    return Energy(joules, sum(grams) if len(grams) == len(parts) else None, left_out)
