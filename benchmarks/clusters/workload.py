"""The rows and the flow of these benchmarks: three steps, of which two repeat as a Zipf law says."""

from __future__ import annotations

import json
import random
import re
from bisect import bisect
from itertools import accumulate
from pathlib import Path

FLOW = """
name: tickets
engines:
  served: {{kind: openai, base_url: "{origin}/v1", model: counted, max_concurrency: {num_places}}}
inputs:
  rows: {{path: rows.jsonl}}
nodes:
  notes: {{llm: {{engine: served, prompt: "{{{{ row.manual }}}}\\nWrite notes.", max_tokens: 20}}}}
  topic: {{llm: {{engine: served, prompt: "The topic of: {{{{ row.text }}}}", max_tokens: 20}}}}
  triage: {{llm: {{engine: served, prompt: "{{{{ notes.text }}}} Triage: {{{{ row.text }}}}", max_tokens: 20}}}}
{effect}outputs:
  id: "{{{{ row.id }}}}"
  topic: "{{{{ topic.text }}}}"
  triage: "{{{{ triage.text }}}}"
"""
EFFECT = """  send: {{http: {{method: POST, url: "{origin}/effects/{{{{ row.id }}}}", body: "{{{{ triage.text }}}}"}}}}
"""


def write_workload(folder: Path, origin: str, num_rows: int, *, num_places: int = 64, has_effect: bool = False) -> int:
    """Write flow.yaml and rows.jsonl; gives the number of different calls. Rows have one of num_rows / 50 manuals and
    one of num_rows / 2 texts, both drawn as Zipf's law with exponent 1 says."""
    folder.mkdir(parents=True, exist_ok=True)
    effect = EFFECT.format(origin=origin) if has_effect else ""
    (folder / "flow.yaml").write_text(FLOW.format(origin=origin, num_places=num_places, effect=effect))
    chance = random.Random(7)
    manuals, texts = _zipf(max(1, num_rows // 50)), _zipf(max(1, num_rows // 2))
    pairs: set[tuple[int, int]] = set()
    with (folder / "rows.jsonl").open("w") as file:
        for number in range(num_rows):
            manual, text = (bisect(law, chance.random() * law[-1]) for law in (manuals, texts))
            pairs.add((manual, text))
            row = {
                "id": number,
                "manual": f"Manual {manual}. " + "Press the button and wait. " * 8,
                "text": f"The device number {text} does not start.",
            }
            file.write(json.dumps(row) + "\n")
    return len({one for one, _ in pairs}) + len({one for _, one in pairs}) + len(pairs)


def split_workload(folder: Path, num_parts: int) -> list[Path]:
    """Write folders with equal shares of the rows and of the places; gives them."""
    flow = (folder / "flow.yaml").read_text()
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    parts = [folder / f"part-{number}" for number in range(num_parts)]
    for number, part in enumerate(parts):
        part.mkdir()
        places = re.sub(r"(?<=max_concurrency: )\d+", lambda found: str(int(found[0]) // num_parts), flow)
        (part / "flow.yaml").write_text(places)
        (part / "rows.jsonl").write_text("".join(lines[number::num_parts]))
    return parts


def _zipf(num_values: int) -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, num_values + 1)))
