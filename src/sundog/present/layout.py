"""The physical plan as a picture: layers from the top, each step below what it waits for.

Owns positions and lines, in pixels. Never draws, and knows no colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from sundog.present.document import StepDocument

CARD_WIDTH = 292
HEAD_HEIGHT = 50
LINE_HEIGHT = 19
PADDING = 12
GAP_X = 28
GAP_Y = 46
NUM_SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Box:
    """A step's card, its top left corner at `x`, `y`; `inner`: the body of a loop."""

    step: StepDocument
    x: float
    y: float
    width: float
    height: float
    inner: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """From the bottom of one card to the top of another; `path` as SVG has it."""

    source: str
    target: str
    path: str
    is_critical: bool


@dataclass(frozen=True, slots=True)
class Picture:
    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


def picture_of(steps: Sequence[StepDocument], num_lines: Mapping[str, int]) -> Picture:
    """`steps` in topological order; `num_lines`: of figures on the card of each step, those inside loops too."""
    before = _reduced({step.name: step.waits_for for step in steps})
    layers = _ordered(_layers(steps, before), before)
    by_name = {step.name: step for step in steps}
    sizes = {step.name: _size(step, num_lines) for step in steps}
    width = max((_row_width(layer, sizes) for layer in layers), default=0.0)
    boxes: dict[str, Box] = {}
    y = 0.0
    for layer in layers:
        x = (width - _row_width(layer, sizes)) / 2
        for name in layer:
            boxes[name] = _box(by_name[name], x, y, num_lines)
            x += sizes[name][0] + GAP_X
        y += max(sizes[name][1] for name in layer) + GAP_Y
    edges = tuple(_edge(boxes[first], boxes[name]) for name in boxes for first in before[name])
    return Picture(width, max(0.0, y - GAP_Y), tuple(boxes.values()), edges)


def _reduced(before: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Without what also follows from the other edges. Names in topological order."""
    above: dict[str, frozenset[str]] = {}
    found: dict[str, tuple[str, ...]] = {}
    for name, waits in before.items():
        through = frozenset[str]().union(*(above[other] for other in waits))
        found[name] = tuple(other for other in waits if other not in through)
        above[name] = through | frozenset(waits)
    return found


def _layers(steps: Sequence[StepDocument], before: Mapping[str, Sequence[str]]) -> list[list[str]]:
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.name] = max((depth[other] + 1 for other in before[step.name]), default=0)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, layer in depth.items():
        layers[layer].append(name)
    return layers


def _ordered(layers: list[list[str]], before: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Each layer by where its neighbours stand, so that few lines cross (Sugiyama's barycentres)."""
    after: dict[str, list[str]] = {name: [] for name in before}
    for name, waits in before.items():
        for other in waits:
            after[other].append(name)
    for sweep in range(NUM_SWEEPS):
        place = {name: (index + 0.5) / len(layer) for layer in layers for index, name in enumerate(layer)}
        near = before if sweep % 2 == 0 else after
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            centres = {name: fmean([place[other] for other in near[name]] or [place[name]]) for name in layer}
            layer.sort(key=centres.__getitem__)
            place |= {name: (index + 0.5) / len(layer) for index, name in enumerate(layer)}
    return layers


def _row_width(layer: Sequence[str], sizes: Mapping[str, tuple[float, float]]) -> float:
    return sum(sizes[name][0] for name in layer) + GAP_X * (len(layer) - 1)


def _size(step: StepDocument, num_lines: Mapping[str, int]) -> tuple[float, float]:
    if not step.body:
        return CARD_WIDTH, HEAD_HEIGHT + LINE_HEIGHT * num_lines[step.name] + (PADDING if num_lines[step.name] else 0)
    inner = [_size(one, num_lines) for one in step.body]
    height = HEAD_HEIGHT + sum(height + PADDING for _, height in inner)
    return max(width for width, _ in inner) + 2 * PADDING, height


def _box(step: StepDocument, x: float, y: float, num_lines: Mapping[str, int]) -> Box:
    width, height = _size(step, num_lines)
    inner: list[Box] = []
    inner_y = y + HEAD_HEIGHT
    for one in step.body:
        inner.append(_box(one, x + PADDING, inner_y, num_lines))
        inner_y += inner[-1].height + PADDING
    return Box(step, x, y, width, height, tuple(inner))


def _edge(source: Box, target: Box) -> Edge:
    x0, y0 = source.x + source.width / 2, source.y + source.height
    x1, y1 = target.x + target.width / 2, target.y
    bend = max(GAP_Y / 2, (y1 - y0) / 2)
    path = f"M{x0:g},{y0:g} C{x0:g},{y0 + bend:g} {x1:g},{y1 - bend:g} {x1:g},{y1 - 1:g}"
    return Edge(source.step.name, target.step.name, path, source.step.is_critical and target.step.is_critical)
