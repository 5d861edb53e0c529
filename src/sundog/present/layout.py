"""A plan as a picture: layers from the top, each card below what it waits for, the body of a loop inside its card.

Owns positions and lines, in pixels. Never draws, and knows neither texts nor colours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

CARD_WIDTH = 316
PADDING = 14
GAP_X = 28
GAP_Y = 44
TURN_WIDTH = 22
"""Room in a loop, at its right, for the line that leads to the next turn."""
LANE_WIDTH = 10
"""Room between cards for a line that passes them."""
MAX_CARDS = 3
"""Side by side; a page is about as wide as three."""
NUM_SWEEPS = 4


@dataclass(frozen=True, slots=True)
class LayoutNode:
    """A card to be placed."""

    name: str
    waits_for: tuple[str, ...]
    #: Its own; for a loop that of its head, below which its `body` stands.
    height: float
    is_critical: bool = False
    body: tuple[LayoutNode, ...] = ()
    #: The body comes again: a line leads from its end to its beginning.
    turns: bool = True


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from the bottom of one card to the top of another; `path` as SVG has it."""

    source: str
    target: str
    path: str
    is_critical: bool


@dataclass(frozen=True, slots=True)
class Box:
    """A node's card, its top left corner at `x`, `y`. Of a loop `inner` and `edges` are its body's, and `turn` is the
    line from its end back to its beginning."""

    node: LayoutNode
    x: float
    y: float
    width: float
    height: float
    inner: tuple[Box, ...] = ()
    edges: tuple[Edge, ...] = ()
    turn: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


_Lane = tuple[float, float, float]
"""The middle of a lane, its top and its bottom."""


@dataclass(frozen=True, slots=True)
class _Arranged:
    """Nodes and lanes in layers."""

    nodes: Mapping[str, LayoutNode]
    inner: Mapping[str, _Arranged]
    #: Names from left to right, lanes among them.
    layers: list[list[str]]
    #: By edge (source, target), the lanes that it passes through on its way down.
    lanes: Mapping[tuple[str, str], list[str]]
    sizes: Mapping[str, tuple[float, float]]
    width: float
    height: float


def picture_of(nodes: Sequence[LayoutNode], max_beside: int = MAX_CARDS) -> Picture:
    """Return the picture of `nodes`, which are in topological order, at most so many of them side by side."""
    return _drawn(_arranged(nodes, max_beside), 0.0, 0.0)


def _arranged(nodes: Sequence[LayoutNode], max_beside: int = MAX_CARDS) -> _Arranged:
    inner = {node.name: _arranged(node.body) for node in nodes if node.body}
    sizes = {node.name: _size(node, inner.get(node.name)) for node in nodes}
    before = _reduced({node.name: node.waits_for for node in nodes})
    layers = _layers(before, max_beside)
    lanes = _add_lanes(layers, before)
    sizes |= {lane: (LANE_WIDTH, 0.0) for some in lanes.values() for lane in some}
    layers = _ordered(layers, _steps_down(before, lanes))
    heights = [max(sizes[name][1] for name in layer) for layer in layers]
    return _Arranged(
        {node.name: node for node in nodes},
        inner,
        layers,
        lanes,
        sizes,
        max((_layer_width(layer, sizes) for layer in layers), default=0.0),
        sum(heights) + GAP_Y * max(0, len(layers) - 1),
    )


def _size(node: LayoutNode, inner: _Arranged | None) -> tuple[float, float]:
    if inner is None:
        return CARD_WIDTH, node.height
    return max(CARD_WIDTH, inner.width + 2 * PADDING + TURN_WIDTH), node.height + inner.height + PADDING


def _reduced(before: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Leave out what also follows from the other edges. Names in topological order."""
    above: dict[str, frozenset[str]] = {}
    found: dict[str, tuple[str, ...]] = {}
    for name, waits in before.items():
        through = frozenset[str]().union(*(above[other] for other in waits))
        found[name] = tuple(other for other in waits if other not in through)
        above[name] = through | frozenset(waits)
    return found


def _layers(before: Mapping[str, Sequence[str]], max_beside: int) -> list[list[str]]:
    """Put each card into the first layer below what it waits for that has room."""
    depth: dict[str, int] = {}
    layers: list[list[str]] = []
    for name, waits in before.items():
        layer = max((depth[other] + 1 for other in waits), default=0)
        while layer < len(layers) and len(layers[layer]) == max_beside:
            layer += 1
        if layer == len(layers):
            layers.append([])
        layers[layer].append(name)
        depth[name] = layer
    return layers


def _add_lanes(layers: list[list[str]], before: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[str]]:
    """Add a lane in each layer that an edge passes, so that no line runs behind a card. Edges from one card share
    theirs, or those to one card, whichever are more."""
    depth = {name: number for number, layer in enumerate(layers) for name in layer}
    num_after = Counter(source for waits in before.values() for source in waits)
    lanes: dict[tuple[str, str], list[str]] = {}
    for target, waits in before.items():
        for source in waits:
            passed = range(depth[source] + 1, depth[target])
            bundle = f"from {source}" if num_after[source] > len(waits) else f"to {target}"
            lanes[source, target] = [f"{bundle} {layer}" for layer in passed]
            for layer, lane in zip(passed, lanes[source, target], strict=True):
                if lane not in layers[layer]:
                    layers[layer].append(lane)
    return lanes


def _steps_down(
    before: Mapping[str, Sequence[str]], lanes: Mapping[tuple[str, str], Sequence[str]]
) -> dict[str, list[str]]:
    """Return by name, of cards and lanes alike, what a line comes from in the layer above."""
    found: dict[str, list[str]] = {name: [] for name in before}
    for (source, target), passed in lanes.items():
        for first, second in pairwise((source, *passed, target)):
            found.setdefault(second, []).append(first)
    return found


def _ordered(layers: list[list[str]], before: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Order each layer by where its neighbours stand, so that few lines cross (Sugiyama's barycentres)."""
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


def _layer_width(layer: Sequence[str], sizes: Mapping[str, tuple[float, float]]) -> float:
    return sum(sizes[name][0] for name in layer) + GAP_X * (len(layer) - 1)


def _drawn(arranged: _Arranged, left: float, top: float) -> Picture:
    boxes: dict[str, Box] = {}
    lanes: dict[str, _Lane] = {}
    bottoms: dict[str, float] = {}
    y = top
    for layer in arranged.layers:
        x = left + (arranged.width - _layer_width(layer, arranged.sizes)) / 2
        height = max(arranged.sizes[name][1] for name in layer)
        for name in layer:
            width = arranged.sizes[name][0]
            if name in arranged.nodes:
                boxes[name] = _box(arranged, name, x, y)
            else:
                lanes[name] = x + width / 2, y, y + height
            bottoms[name] = y + height
            x += width + GAP_X
        y += height + GAP_Y
    edges = tuple(
        _edge(boxes[source], bottoms[source], boxes[target], [lanes[lane] for lane in passed])
        for (source, target), passed in arranged.lanes.items()
    )
    return Picture(arranged.width, arranged.height, tuple(boxes.values()), edges)


def _box(arranged: _Arranged, name: str, x: float, y: float) -> Box:
    node, (width, height) = arranged.nodes[name], arranged.sizes[name]
    box = Box(node, x, y, width, height)
    if not node.body:
        return box
    body = arranged.inner[name]
    inner = _drawn(body, x + (width - TURN_WIDTH - body.width) / 2, y + node.height)
    if not node.turns:
        return replace(box, inner=inner.boxes, edges=inner.edges)
    side, end = x + width - PADDING, y + height - PADDING
    turn = f"M{side - 10:g},{end:g} L{side:g},{end:g} L{side:g},{y + node.height:g} L{side - 10:g},{y + node.height:g}"
    return replace(box, inner=inner.boxes, edges=inner.edges, turn=turn)


def _edge(source: Box, bottom: float, target: Box, lanes: Sequence[_Lane]) -> Edge:
    """Return the line of one edge.

    `bottom`: of the source's layer, where there is room to turn.
    """
    x, y = source.x + source.width / 2, bottom
    path = f"M{x:g},{source.y + source.height:g}" + (f" L{x:g},{y:g}" if y > source.y + source.height else "")
    for lane_x, lane_top, lane_bottom in lanes:
        path += f"{_curve(x, y, lane_x, lane_top)} L{lane_x:g},{lane_bottom:g}"
        x, y = lane_x, lane_bottom
    path += _curve(x, y, target.x + target.width / 2, target.y - 1)
    is_critical = source.node.is_critical and target.node.is_critical
    return Edge(source.node.name, target.node.name, path, is_critical)


def _curve(x0: float, y0: float, x1: float, y1: float) -> str:
    bend = max(GAP_Y / 2, (y1 - y0) / 2)
    return f" C{x0:g},{y0 + bend:g} {x1:g},{y1 - bend:g} {x1:g},{y1:g}"
