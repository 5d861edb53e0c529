"""The origin of a result: machine, versions, commit. Owns the form of result files; measures nothing itself."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("sundog", "duckdb", "pyarrow", "jinja2", "pydantic")


def facts() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "processor": _processor(),
        "num_cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in LIBRARIES},
    }


def save(name: str, result: dict[str, Any], *, is_shown: bool = True) -> None:
    """Write results/<name>.json and, where it `is_shown`, print the same."""
    text = json.dumps({"machine": facts(), **result}, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    if is_shown:
        print(text)


def sundog(*arguments: str | Path) -> list[str]:
    """The command line of this interpreter's sundog."""
    return [str(Path(sys.executable).with_name("sundog")), *map(str, arguments)]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
