"""vLLM's general plugin, in every process of vLLM: a request with a malformed envelope is refused where its sampling
parameters are made, which is in the API server, or in the caller's own process.

Owns that refusal. Does nothing else, so that sundog may be installed beside a vLLM that does not use it.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from sundog.vllm_plugin.engine_check import SUPPORTED, missing_names
from sundog.vllm_plugin.engine_types import CheckedSamplingParams
from sundog.vllm_plugin.envelope import ENVELOPE_KEY, BadEnvelope, read_envelope

log = logging.getLogger("vllm.sundog")
_NEEDED: dict[str, type] = {"vllm.sampling_params:SamplingParams": CheckedSamplingParams}


def register() -> None:
    """Called by vLLM, maybe more than once in a process."""
    missing = list(missing_names(_NEEDED))
    if missing:
        # Raising here would end a vLLM that has nothing to do with sundog; sundog's schedulers refuse to start instead.
        log.warning("sundog: this vLLM has no %s; supported: %s*", ", ".join(missing), SUPPORTED)
        return
    parameters: Any = import_module("vllm.sampling_params").SamplingParams
    refusal: Any = import_module("vllm.exceptions").VLLMValidationError
    verify = parameters._verify_extra_args
    if getattr(verify, "reads_envelope", False):
        return

    def verify_envelope_too(self: Any) -> None:
        verify(self)
        try:
            read_envelope(self.extra_args)
        except BadEnvelope as error:
            raise refusal(str(error), parameter=ENVELOPE_KEY) from error

    verify_envelope_too.reads_envelope = True  # type: ignore[attr-defined]  # a mark on the function, read above
    parameters._verify_extra_args = verify_envelope_too
