"""The length of a token in characters and the price of tokens, said once for all rooms.

Owns these figures, so that estimates, engines and the scheduler count alike. Never tokenizes.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

CHARACTERS_PER_TOKEN = 4
"""English text has 3 to 5."""
DEFAULT_OUTPUT_TOKENS = 256
"""The tokens that the scheduler takes an answer to need when the step does not say."""

TEMPLATE_TOKENS, MESSAGE_TOKENS = 128, 16
"""The tokens that a server's chat template may add to a prompt, and to each of its messages."""


class TokenPrices(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input_usd_per_mtok: float = Field(ge=0.0)
    output_usd_per_mtok: float = Field(ge=0.0)
    #: None where a cached token costs as much as any other.
    cached_input_usd_per_mtok: float | None = Field(default=None, ge=0.0)
