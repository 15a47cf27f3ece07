"""Drawings of a graph that flows downwards: as SVG, laid out here, and as DOT for Graphviz.

It knows boxes with lines of text and arrows between them, and not what they stand for. All is
black, grey and white, so that it prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

Arrow = tuple[int, int]

FONT, LINE = 11, 15  # pixels: of the letters, and from line to line
LETTER = 0.6 * FONT  # a letter's width in any monospaced font, nearly
PADDING, GAP = 8, 24  # within a box and beside it
BETWEEN = 34  # from the row of one rank to that of the next
SWEEPS = 8  # down and up, in which boxes move towards those that they are joined to


@dataclass(frozen=True)
class Box:
    """A box of a drawing.

    Attributes
    ----------
    lines : tuple of str
        Its text; the first line is bold.
    grey : bool
        Whether it is filled.
    thick : bool
        Whether its border is.
    """

    lines: tuple[str, ...]
    grey: bool = False
    thick: bool = False

    @property
    def width(self) -> float:
        """In pixels."""
        return 2 * PADDING + LETTER * max(map(len, self.lines))

    @property
    def height(self) -> float:
        """In pixels."""
        return 2 * PADDING + LINE * len(self.lines) - (LINE - FONT)


def dot(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    """The graph as source of Graphviz's `dot`.

    Parameters
    ----------
    boxes : sequence of Box
    arrows : sequence of (int, int)
        From one box to another, by their places.

    Returns
    -------
    str
    """
    lines = ["digraph {", '  node [shape=box, fontname="monospace", fillcolor="gray90"]']
    for i, box in enumerate(boxes):
        label = "\\n".join(
            line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for line in box.lines
        )
        style = (", style=filled" if box.grey else "") + (", penwidth=2.5" if box.thick else "")
        lines.append(f'  {i} [label="{label}"{style}]')
    lines += [f"  {a} -> {b}" for a, b in arrows]
    return "\n".join([*lines, "}", ""])


def svg(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    """The graph as an SVG image.

    Boxes lie in ranks, each below all that it takes from; an arrow that passes ranks gets a place
    of its own in them, so that it crosses no box.

    Parameters
    ----------
    boxes : sequence of Box
    arrows : sequence of (int, int)
        From a box to a later one, by their places.

    Returns
    -------
    str
    """
    layout = _Layout(boxes, sorted(set(arrows), key=lambda arrow: (arrow[1], arrow[0])))
    width, height = layout.width, layout.height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="monospace" font-size="{FONT}">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
    ]
    for chain in layout.chains:
        path = layout.path(chain)
        parts.append(f'<path d="{path}" fill="none" stroke="black" marker-end="url(#tip)"/>')
    for i, box in enumerate(boxes):
        parts.append(_drawn(box, layout.x[i], layout.top(i)))
    return "\n".join([*parts, "</svg>", ""])


def _drawn(box: Box, x: float, top: float) -> str:
    fill, border = "#e6e6e6" if box.grey else "white", 2.5 if box.thick else 1
    parts = [
        f'<g><rect x="{x - box.width / 2:.1f}" y="{top:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="3" fill="{fill}" stroke="black" stroke-width="{border}"/>'
    ]
    for i, line in enumerate(box.lines):
        y = top + PADDING + FONT - 2 + i * LINE
        bold = ' font-weight="bold"' if i == 0 else ""
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle"{bold}>{escape(line)}</text>'
        )
    return "".join(parts) + "</g>"


# --------------------------------------------------------------------------------------- the layout


class _Layout:
    """Where all lies: ranks by the longest way from above, then orders, then places.

    After Sugiyama, Tagawa and Toda 1981, "Methods for visual understanding of hierarchical system
    structures", with means of neighbours for both the order within a rank and the places.

    Attributes
    ----------
    chains : list of list of int
        Of each arrow the items that it passes: a box, places of its own, a box.
    x : list of float
        Of each item its middle. Items are the boxes and, after them, the arrows' own places.
    """

    def __init__(self, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> None:
        self._widths = [box.width for box in boxes]
        self._heights = [box.height for box in boxes]
        self._rank = _ranks(len(boxes), arrows)
        self.chains = [self._chain(a, b) for a, b in arrows]
        self._above: list[list[int]] = [[] for _ in self._widths]
        self._below: list[list[int]] = [[] for _ in self._widths]
        for chain in self.chains:
            for a, b in pairwise(chain):
                self._above[b].append(a)
                self._below[a].append(b)
        self._ranks: list[list[int]] = [[] for _ in range(max(self._rank, default=0) + 1)]
        for item, rank in enumerate(self._rank):
            self._ranks[rank].append(item)
        self.x = [0.0] * len(self._widths)
        self._sort()
        self._place()
        self._tops, self._tallest, at = [], [], float(GAP)
        for items in self._ranks:
            self._tops.append(at)
            self._tallest.append(max((self._heights[i] for i in items), default=0.0))
            at += self._tallest[-1] + BETWEEN
        self.height = at - BETWEEN + GAP

    def _chain(self, a: int, b: int) -> list[int]:
        """An arrow's items, with new ones for the ranks that it passes."""
        own = range(len(self._widths), len(self._widths) + self._rank[b] - self._rank[a] - 1)
        for rank, _ in enumerate(own, self._rank[a] + 1):
            self._widths.append(0.0)
            self._heights.append(0.0)
            self._rank.append(rank)
        return [a, *own, b]

    def _sweeps(self) -> list[tuple[list[list[int]], list[list[int]]]]:
        """The ranks in the order of each sweep, and the neighbours that it looks at."""
        down, up = (self._ranks, self._above), (self._ranks[::-1], self._below)
        return [down, up] * SWEEPS + [down]

    def _sort(self) -> None:
        """The order within ranks: by the mean place of the neighbours, for few crossings."""
        place = {item: float(i) for items in self._ranks for i, item in enumerate(items)}
        for ranks, neighbours in self._sweeps():
            for items in ranks:
                means = {
                    i: sum(place[j] for j in near) / len(near)
                    if (near := neighbours[i])
                    else place[i]
                    for i in items
                }
                items.sort(key=means.__getitem__)
                place.update((item, float(i)) for i, item in enumerate(items))

    def _place(self) -> None:
        """Middles: as near to those of the neighbours as room and order allow."""
        for ranks, neighbours in self._sweeps():
            for items in ranks:
                wanted = [
                    sum(self.x[j] for j in near) / len(near)
                    if (near := neighbours[i])
                    else self.x[i]
                    for i in items
                ]
                self._settle(items, wanted)
        left = min((x - w / 2 for x, w in zip(self.x, self._widths, strict=True)), default=0.0)
        self.x = [x - left + GAP for x in self.x]
        self.width = GAP + max(
            (x + w / 2 for x, w in zip(self.x, self._widths, strict=True)), default=GAP
        )

    def _settle(self, items: list[int], wanted: list[float]) -> None:
        at, found = float("-inf"), []
        for item, want in zip(items, wanted, strict=True):
            half = self._widths[item] / 2
            found.append(max(want, at + GAP + half))
            at = found[-1] + half
        shift = sum(want - x for want, x in zip(wanted, found, strict=True)) / max(1, len(items))
        for item, x in zip(items, found, strict=True):
            self.x[item] = x + shift

    def top(self, item: int) -> float:
        """The upper edge of an item, which stands in the middle of its rank."""
        rank = self._rank[item]
        return self._tops[rank] + (self._tallest[rank] - self._heights[item]) / 2

    def path(self, chain: list[int]) -> str:
        """An arrow: upright through ranks, and curved between them."""
        x = self.x[chain[0]]
        parts = [f"M{x:.1f} {self.top(chain[0]) + self._heights[chain[0]]:.1f}"]
        for item in chain[1:]:
            rank, to = self._rank[item], self.x[item]
            begin, end = self._tops[rank - 1] + self._tallest[rank - 1], self._tops[rank]
            bend = f"{x:.1f} {(begin + end) / 2:.1f} {to:.1f} {(begin + end) / 2:.1f}"
            parts.append(f"V{begin:.1f}C{bend} {to:.1f} {end:.1f}")
            x = to
        parts.append(f"V{self.top(chain[-1]):.1f}")
        return "".join(parts)


def _ranks(n: int, arrows: Sequence[Arrow]) -> list[int]:
    """One below the lowest that it takes from; what takes from none, just above its first use."""
    ranks, has_sources = [0] * n, [False] * n
    for a, b in arrows:  # sorted by their ends, so that ranks[a] is settled
        ranks[b], has_sources[b] = max(ranks[b], ranks[a] + 1), True
    for i in range(n):
        uses = [ranks[b] for a, b in arrows if a == i]
        if uses and not has_sources[i]:
            ranks[i] = min(uses) - 1
    return ranks
