"""The result of a simulation for Python users: its figures, and the same text, JSON and page that the command prints.

Owns the public class. The figures are those of the document; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sundog.result.notebook import Page

if TYPE_CHECKING:
    from sundog.cost.energy import Energy
    from sundog.cost.estimate import Estimate
    from sundog.present.simulation import PoolOutcome, SimulationDocument, VariantDocument


class Simulation:
    """The result of a simulation. `variants` holds all that were simulated; the other figures are those of the answer:
    the last variant, which is the only one unless `compare` or `deadline` asked for more."""

    def __init__(self, document: SimulationDocument) -> None:
        self._document = document

    @property
    def variants(self) -> tuple[VariantDocument, ...]:
        """The variants as they were asked for; of a search for a deadline in the order of the search."""
        return self._document.variants

    @property
    def answer(self) -> VariantDocument:
        return self._document.variants[-1]

    @property
    def makespan_s(self) -> Estimate:
        """The seconds from the first call to the last row's end: low, expected and high."""
        return self.answer.makespan_s

    @property
    def machines(self) -> Mapping[str, int]:
        """The replicas by engine, and the workers by group."""
        return self.answer.machines

    @property
    def pools(self) -> Mapping[str, PoolOutcome]:
        """The work of each engine and each tool, by its pool: `engine:local`, say."""
        return {pool.pool: pool for pool in self.answer.pools}

    @property
    def usd(self) -> float | None:
        """The dollars of tokens and workers; None where neither has a price."""
        return self.answer.usd

    @property
    def energy(self) -> Energy | None:
        """The energy of all engines whose watts are known; None where none are."""
        return self.answer.energy

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Sentences that say what was not known, and what was taken for it."""
        return self.answer.assumptions

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `sundog simulate --format json` prints."""
        return self._document.to_dict()

    def to_html(self) -> Page:
        """Return the page that `sundog simulate --format html` prints."""
        from sundog.present.simulation_html import simulation_html

        return Page(simulation_html(self._document))

    def __repr__(self) -> str:
        from sundog.present.simulation_text import simulation_text

        return simulation_text(self._document)

    def _repr_html_(self) -> str:
        return self.to_html()._repr_html_()
