"""This benchmark measures how well the step-time model fits an engine, on mixed steps that it was not fitted to.

python benchmarks/calibration.py openvino '{"model": "smollm2-135m"}'
python benchmarks/calibration.py openai '{"model": "smol", "base_url": "http://127.0.0.1:8000/v1"}'
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import machine

from sundog.config import read_config
from sundog.cost.profile import Profile
from sundog.ir.logical import EngineBlock
from sundog.measured.calibrate import calibrate_engine
from sundog.secrets import Secrets
from sundog.servers.run_servers import RunServers
from sundog.servers.servers import Servers

TARGET = 0.10


def row(profile: Profile) -> dict[str, Any]:
    return {
        **profile.to_json(),
        "prefill_tokens_per_s": round(profile.prefill_tokens_per_s, 1),
        "decode_tokens_per_s": round(profile.decode_tokens_per_s, 1),
        "is_within_target": profile.held_out.mape <= TARGET,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("options", type=json.loads, help="the engine block, as JSON")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    block = EngineBlock("measured", given.kind, given.options)
    servers = RunServers(Servers(read_config().state_dir, Secrets({})))
    runs = [
        asyncio.run(
            calibrate_engine(block, Secrets({}), servers, budget_s=given.seconds, on_round=lambda done, total: None)
        )
        for _ in range(given.repeats)
    ]
    model = str(given.options["model"]).rpartition("/")[2]
    machine.save(f"calibration-{given.kind}-{model}", {"engine": given.options, "runs": [row(run) for run in runs]})


if __name__ == "__main__":
    main()
