"""Faults: what does a server lose when it is killed, when its engines are, when clients vanish, and does it grow?

`python benchmarks/serve_faults.py PART ...` runs parts of the experiment, all of them where none is named, and keeps
the figures of each in results/serve_faults.json with the commit and the settings that it ran with:

`kills`: the server is killed at random moments, while rows with effects and calls of models run;
`replicas`: servers behind a gateway and behind a flow are killed under load, and started again;
`vanishing`: clients that close their connection in the middle of a body, while they wait, and in a stream;
`memory`: requests with sessions, prompts and keys of their own, and rows; the memory of the server as they go on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from faults.kills import KillLoad, kills
from faults.memory import MemoryLoad, memory
from faults.replicas import KINDS, ReplicaLoad, replicas
from faults.vanishing import VanishLoad, vanishing
from machine import RESULTS, facts

NAME = "serve_faults"


def main() -> None:
    given = _arguments()
    for part in given.parts or PARTS:
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            found = PARTS[part](given, Path(folder))
        print(json.dumps(found, indent=2))
        if not given.quick:
            _keep(part, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--kills", type=int, default=100, help="of `kills` and `replicas`")
    parser.add_argument("--clients", type=int, default=10_000, help="of `vanishing`")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of `memory`")
    parser.add_argument("--rows", type=int, default=50_000, help="of `memory`")
    parser.add_argument("--every", type=int, default=50_000, help="requests from one note of `memory` to the next")
    parser.add_argument("--quick", action="store_true", help="writes nothing")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    return given


def _memory(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    load = MemoryLoad(given.seed, given.requests, given.rows, 32, given.every)
    return {"settings": asdict(load), **asyncio.run(memory(load, folder))}


def _kills(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    load = KillLoad(given.seed, given.kills, 40, 0.15, num_senders=6, num_chatters=4)
    return {"settings": asdict(load), **asyncio.run(kills(load, folder))}


def _replicas(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    load = ReplicaLoad(given.seed, 3, given.kills // 2, 2.0, 3.0, num_chatters=8, num_readers=8, num_senders=8)
    found: dict[str, Any] = {"settings": asdict(load)}
    for kind in KINDS:
        (folder / kind).mkdir()
        found[kind] = asyncio.run(replicas(load, kind, folder / kind))
    return found


def _vanishing(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    load = VanishLoad(given.seed, given.clients, 32, 0.2, max(1, given.clients // 10))
    return {"settings": asdict(load), **asyncio.run(vanishing(load, folder))}


PARTS: Mapping[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "kills": _kills,
    "replicas": _replicas,
    "vanishing": _vanishing,
    "memory": _memory,
}


def _keep(part: str, found: dict[str, Any]) -> None:
    """Write the figures of one part beside those of the others."""
    file = RESULTS / f"{NAME}.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    kept[part] = {"machine": facts(), **found}
    file.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
