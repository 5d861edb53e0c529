"""Plots as inline SVG: bars in groups, standing or lying, and lines over a logarithmic axis.

Owns drawing; knows nothing of results.
A series has the colour that the caller gives it, in every plot of a page. `mark`: a value that a line is drawn at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import log10

WIDTH, HEIGHT = 860, 300
LEFT, TOP, BOTTOM, RIGHT = 60, 16, 34, 12
MAX_BAR = 40
LYING_BAR, LYING_LABEL, LYING_GAP = 15, 20, 12

Colours = Mapping[str, str]
Groups = Mapping[str, Mapping[str, float | None]]
"""By group, a value for each series; None leaves a gap."""


def bars(groups: Groups, series: Sequence[str], colours: Colours, unit: str, mark: float | None = None) -> str:
    """A group of standing bars for each entry of `groups`, one for each of `series`."""
    top = _round_up(max([*_values(groups), *([] if mark is None else [mark])], default=1.0))
    parts = [_axis(value, _up(value / top), unit) for value in _ticks(top)]
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    width = min(MAX_BAR, slot * 0.8 / max(1, len(series)))
    for position, (name, group) in enumerate(groups.items()):
        middle = LEFT + slot * (position + 0.5)
        start = middle - width * len(series) / 2
        parts.append(_text(middle, HEIGHT - 14, name, "middle"))
        for number, arm in enumerate(series):
            value = group.get(arm)
            if value is not None:
                x, y = start + number * width, _up(value / top)
                title = f"{name} {arm}: {value:.3g}{unit}"
                parts.append(_bar(x, y, max(1.0, width - 1), _up(0.0) - y, colours[arm], title))
    if mark is not None:
        parts.append(_line(LEFT, WIDTH - RIGHT, _up(mark / top), _up(mark / top)))
    return _figure(parts, series, colours, HEIGHT, _told(groups, unit))


def lying_bars(groups: Groups, series: Sequence[str], colours: Colours, unit: str, mark: float) -> str:
    """Lying bars with their values, the name of each group above its bars."""
    right = _round_up(max([*_values(groups), mark], default=1.0))
    across = (WIDTH - RIGHT - LEFT) / right
    parts: list[str] = []
    y = 4.0
    for name, group in groups.items():
        there = {arm: value for arm in series if (value := group.get(arm)) is not None}
        parts.append(_text(0, y + 12, name, "start"))
        y += LYING_LABEL
        top = y
        for arm, value in there.items():
            title = f"{name} {arm}: {value:.3g}{unit}"
            parts.append(_bar(0, y, value * across, LYING_BAR - 2, colours[arm], title))
            parts.append(_text(value * across + 5, y + 11, f"{value:.2f}{unit} {arm}", "start"))
            y += LYING_BAR
        parts.append(_line(mark * across, mark * across, top - 2, y))
        y += LYING_GAP
    return _figure(parts, series, colours, y, _told(groups, unit))


def lines(points: Mapping[str, Sequence[tuple[float, float]]], colours: Colours, unit: str) -> str:
    """A line for each series of (x, y), both axes logarithmic."""
    xs = [x for line in points.values() for x, _ in line]
    ys = [y for line in points.values() for _, y in line if y > 0]
    if not xs or not ys:
        return "<p>no results</p>"
    low, high = 10 ** _floor(min(ys)), 10 ** (_floor(max(ys)) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - log10(min(xs))) / max(1e-9, log10(max(xs)) - log10(min(xs)))
        return LEFT + 20 + across * (WIDTH - LEFT - RIGHT - 40), _up(
            (log10(y) - log10(low)) / (log10(high) - log10(low))
        )

    powers = range(_floor(low), _floor(high) + 1)
    parts = [_axis(10.0**power, place(min(xs), 10.0**power)[1], unit) for power in powers]
    parts += [_text(place(x, low)[0], HEIGHT - 14, f"{x:g}", "middle") for x in sorted(set(xs))]
    for name, line in points.items():
        places = [place(x, y) for x, y in line if y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"><title>{escape(name)}</title></circle>'
            for x, y in places
        ]
    told = "; ".join(
        f"{name}: {', '.join(f'{y:.3g}{unit} at {x:g}' for x, y in line)}" for name, line in points.items()
    )
    return _figure(parts, list(points), colours, HEIGHT, told)


def _figure(parts: Iterable[str], series: Sequence[str], colours: Colours, height: float, told: str) -> str:
    legend = "".join(f'<span><i style="background:{colours[name]}"></i>{escape(name)}</span>' for name in series)
    drawing = "".join(parts)
    plot = f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(told)}">{drawing}</svg>'
    return f"<figure>{plot}<figcaption>{legend}</figcaption></figure>"


def _told(groups: Groups, unit: str) -> str:
    """The values, for those who cannot see the bars."""
    return "; ".join(
        f"{name}: {', '.join(f'{arm} {value:.3g}{unit}' for arm, value in group.items() if value is not None)}"
        for name, group in groups.items()
    )


def _axis(value: float, y: float, unit: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
    return line + _text(LEFT - 6, y + 4, f"{value:g}{unit}", "end")


def _line(x0: float, x1: float, y0: float, y1: float) -> str:
    return f'<line x1="{x0:.1f}" x2="{x1:.1f}" y1="{y0:.1f}" y2="{y1:.1f}" class="mark"/>'


def _bar(x: float, y: float, width: float, height: float, colour: str, title: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}"><title>{escape(title)}</title></rect>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _up(share: float) -> float:
    """The place of a share of the axis, 1 at the top."""
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _values(groups: Groups) -> list[float]:
    return [value for group in groups.values() for value in group.values() if value is not None]


def _floor(value: float) -> int:
    return int(log10(value) // 1)


def _round_up(value: float) -> float:
    power = 10.0 ** _floor(value) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _ticks(top: float) -> list[float]:
    return [top * part / 4 for part in range(5)]
