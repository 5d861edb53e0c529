"""Modelled time: batches of a size that this machine cannot run.

Owns how long the modelled engines' steps last. In modelled time the engines' steps and the HTTP server's latency pass
as modelled; databases, commits and the coordinator's own processor time take none, so that a busy machine changes
nothing. Processor time is reported beside.
"""

from __future__ import annotations

# Round numbers of the order of a 30-billion-parameter model on one data-centre GPU; not measured.
STEP_TIME = (2.5e-2, 1e-4, 1.5e-4, 5e-8, 5e-9)
MAX_STEP_TOKENS = 2048
# Its weights, 60 GB, from the memory of the host. Every arm's engines are loaded within its time.
LOAD_S = 1.5
