"""Plots as inline SVG: bars in groups, and lines over a logarithmic axis. Owns drawing; knows nothing of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

COLOURS = ("#1b6ca8", "#9aa5b1", "#d98324", "#3a7d44", "#8f3985", "#b23a48", "#5f6c7b", "#c2a83e")
WIDTH, HEIGHT = 860, 300
LEFT, TOP, BOTTOM, RIGHT = 60, 16, 34, 12
MAX_BAR = 40


def bars(groups: Mapping[str, Mapping[str, float | None]], series: Sequence[str], unit: str) -> str:
    """A group of bars for each entry of `groups`, one for each of `series`; None leaves a gap."""
    values = [value for group in groups.values() for value in group.values() if value is not None]
    top = _round_up(max(values, default=1.0))
    parts = [_axis(value, TOP + _height() * (1 - value / top), unit) for value in _ticks(top)]
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    width = min(MAX_BAR, slot * 0.8 / max(1, len(series)))
    for position, (name, group) in enumerate(groups.items()):
        middle = LEFT + slot * (position + 0.5)
        start = middle - width * len(series) / 2
        parts.append(_text(middle, HEIGHT - 14, name, "middle"))
        for number, arm in enumerate(series):
            value = group.get(arm)
            if value is not None:
                parts.append(
                    _bar(start + number * width, width, value / top, number, f"{name} {arm}: {value:.3g}{unit}")
                )
    return _figure(parts, series)


def lines(points: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> str:
    """A line for each series of (x, y), both axes logarithmic."""
    xs = [x for line in points.values() for x, _ in line]
    ys = [y for line in points.values() for _, y in line if y > 0]
    if not xs or not ys:
        return "<p>no results</p>"
    low, high = 10 ** _floor(min(ys)), 10 ** (_floor(max(ys)) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - log10(min(xs))) / max(1e-9, log10(max(xs)) - log10(min(xs)))
        up = (log10(y) - log10(low)) / (log10(high) - log10(low))
        return LEFT + 20 + across * (WIDTH - LEFT - RIGHT - 40), TOP + _height() * (1 - up)

    powers = range(_floor(low), _floor(high) + 1)
    parts = [_axis(10.0**power, place(min(xs), 10.0**power)[1], unit) for power in powers]
    parts += [_text(place(x, low)[0], HEIGHT - 14, f"{x:g}", "middle") for x in sorted(set(xs))]
    for number, (name, line) in enumerate(points.items()):
        places = [place(x, y) for x, y in line if y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{escape(name)}</title></circle>'
            for x, y in places
        ]
    return _figure(parts, list(points))


def _figure(parts: Sequence[str], series: Sequence[str]) -> str:
    legend = "".join(
        f'<span><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(name)}</span>'
        for number, name in enumerate(series)
    )
    drawing = "".join(parts)
    plot = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{drawing}</svg>'
    return f"<figure>{plot}<figcaption>{legend}</figcaption></figure>"


def _axis(value: float, y: float, unit: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
    return line + _text(LEFT - 6, y + 4, f"{value:g}{unit}", "end")


def _bar(x: float, width: float, share: float, number: int, title: str) -> str:
    height, colour = share * _height(), COLOURS[number % len(COLOURS)]
    place = f'x="{x:.1f}" y="{TOP + _height() - height:.1f}" width="{max(1.0, width - 1):.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}"><title>{escape(title)}</title></rect>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _height() -> float:
    return HEIGHT - TOP - BOTTOM


def _floor(value: float) -> int:
    return int(log10(value) // 1)


def _round_up(value: float) -> float:
    power = 10.0 ** _floor(value) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _ticks(top: float) -> list[float]:
    return [top * part / 4 for part in range(5)]
