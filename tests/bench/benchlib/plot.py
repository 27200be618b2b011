# SPDX-License-Identifier: Apache-2.0
"""The ratios as an SVG picture, written by hand so that nothing needs to be installed.

One line a figure: how many times better (right) or worse (left) the subject is than each other contestant, on a
logarithmic axis, with the middle half of the paired ratios as a whisker and the medians in words at the right.
"""

import math
from xml.sax.saxutils import escape

from .report import number

WIDTH, LABEL, AXIS = 1180, 330, 480
ROW, HEAD, GAP = 20, 30, 14
TOP = 92
COLOURS = ("#1b6ca8", "#c8553d", "#5a8f3c", "#8a5fa8", "#a8811b")
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1, 1.25, 2, 5, 10, 20, 50, 100)


def advantage(ratio, lower_is_better):
    """(median, low, high quartile): above 1 the subject is better."""
    values = [ratio["median"], ratio["q1"], ratio["q3"]]
    if lower_is_better:
        values = [1 / value if value > 0 else 100.0 for value in values]
        values = [values[0], values[2], values[1]]
    return tuple(max(value, 1e-3) for value in values)


class Scale:
    """Where a ratio is on the axis; symmetric about 1, wide enough for the medians, whiskers are clipped."""

    def __init__(self, medians):
        reach = max([abs(math.log(value)) for value in medians] + [math.log(1.3)])
        self.reach = min(reach * 1.15, math.log(120))

    def x(self, value):
        share = max(-1.0, min(1.0, math.log(value) / self.reach))
        return LABEL + AXIS / 2 * (1 + share)

    def ticks(self):
        return [tick for tick in TICKS if abs(math.log(tick)) <= self.reach]


def _text(x, y, text, anchor="start", size=12, colour="#222", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}" '
            f'font-weight="{weight}">{escape(text)}</text>')


def _line(x1, y1, x2, y2, colour, width=1.0):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"/>')


def _mark(scale, ratio, lower, y, colour):
    median, low, high = advantage(ratio, lower)
    x = scale.x(median)
    return [_line(scale.x(low), y, scale.x(high), y, colour, 1.6),
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{colour}"/>']


def _short(cell):
    return "failed" if "failed" in cell else number(cell["median"])


def _row(row, names, colours, scale, y):
    parts = [_text(LABEL - 10, y + 4, f"{row['title']}, {row['unit']}", "end")]
    rivals = [name for name in names[1:] if name in row["ratios"]]
    for index, name in enumerate(rivals):
        offset = (index - (len(rivals) - 1) / 2) * 5
        parts += _mark(scale, row["ratios"][name], row["lower_is_better"], y + offset, colours[name])
    words = "  :  ".join(_short(row["cells"].get(name, {"failed": ""})) for name in names)
    colour = "#222" if rivals else "#888"
    parts.append(_text(LABEL + AXIS + 12, y + 4, words, size=11, colour=colour))
    return parts


def _axis(scale, top, bottom):
    parts = []
    for tick in scale.ticks():
        x = scale.x(tick)
        colour, width = ("#555", 1.4) if tick == 1 else ("#ddd", 1)
        parts.append(_line(x, top, x, bottom, colour, width))
        parts.append(_text(x, top - 6, f"{tick:g}x", "middle", 10, "#666"))
    return parts


def _head(results, names, colours):
    subject = names[0]
    parts = [_text(20, 28, f"{subject} against {', '.join(names[1:])}", size=17, weight="bold")]
    host = results["host"]
    note = f"{host['cpu']}, {host['cpus']} CPUs, Linux {host['kernel']}"
    if results.get("emulated"):
        note += "; guests under software emulation: ratios only"
    parts.append(_text(20, 48, note, size=11, colour="#666"))
    x = 20.0
    for name in names[1:]:
        parts.append(f'<circle cx="{x + 5:.1f}" cy="64" r="4.2" fill="{colours[name]}"/>')
        parts.append(_text(x + 14, 68, f"{subject} : {name}", size=11))
        x += 34 + 6.6 * (len(subject) + len(name) + 3)
    parts.append(_text(LABEL + AXIS, 68, f"right of 1x: {subject} is better", "end", 11, "#666"))
    parts.append(_text(LABEL + AXIS + 12, 68, "medians: " + " : ".join(names), size=11, colour="#666"))
    return parts


def draw(results):
    """The picture's text."""
    names = [contestant["name"] for contestant in results["contestants"]]
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names[1:])}
    rows = [row for bench in results["benches"] for row in bench["rows"]]
    scale = Scale([advantage(ratio, row["lower_is_better"])[0]
                   for row in rows for ratio in row["ratios"].values()])
    body, y = [], float(TOP)
    for bench in results["benches"]:
        y += HEAD
        body.append(_text(20, y - 8, bench["title"], size=13, weight="bold"))
        for row in bench["rows"]:
            body += _row(row, names, colours, scale, y + ROW / 2)
            y += ROW
        y += GAP
    height = y + 10
    parts = _head(results, names, colours) + _axis(scale, TOP + 4, height - 10) + body
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")
