"""What all displays draw with: new figures and panels, inks, thinned names, legends.

It knows no estimator and no measure. Inks differ in luminance and everything that is drawn in one
of them has a line style or a marker of its own as well, so that pictures survive a grey printer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Relative luminances 0.01, 0.14, 0.28 and 0.58, by WCAG's formula; PAPER is for areas only.
INK, BLUE, ORANGE, PAPER = "#1b1f24", "#2b6cb0", "#d97706", "#c3c9d0"
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

SIZE = (6.4, 4.4)  # inches of a figure with one panel
MOST_NAMES = 14  # beside an axis, without touching each other
LONGEST_NAME = 24  # letters
LETTERS = 8.5  # points, in legends


def pyplot(asker: str) -> Any:
    """matplotlib.pyplot, or an error that names the extra.

    Parameters
    ----------
    asker : str
        What wants it.

    Returns
    -------
    module

    Raises
    ------
    ModuleNotFoundError
        matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{asker}: found no matplotlib, wanted the extra 'plot': pip install 'fastbp[plot]'"
        ) from error
    return plt


def one_panel(ax: Any, asker: str) -> Any:
    """The Axes that is given, or that of a new figure."""
    plt = pyplot(asker)
    if ax is not None:
        return ax
    return plt.figure(figsize=SIZE, layout="constrained").add_subplot()


def two_panels(ax: Any, asker: str, *, beside: bool, ratio: float) -> tuple[Any, Any]:
    """Two Axes with one common axis: of a new figure, in the place of one Axes, or as given.

    Parameters
    ----------
    ax : Axes, sequence of two Axes, or None
    asker : str
        The display, for errors.
    beside : bool
        Whether the second is to the right of the first and shares its y axis, rather than below
        it, sharing x.
    ratio : float
        The length of the first, that of the second being 1.

    Returns
    -------
    tuple of two Axes
    """
    plt = pyplot(asker)
    if ax is None:
        ax = plt.figure(figsize=SIZE, layout="constrained").add_subplot()
    if not hasattr(ax, "get_subplotspec"):
        given = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(given) != 2:
            raise ValueError(f"{asker}: ax holds {len(given)} Axes, wanted one, or two")
        return given[0], given[1]
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            f"{asker}: ax stands in no grid in which it could be divided, wanted one that"
            " subplots() has made, or two Axes"
        )
    ax.set_axis_off()
    if beside:
        parts = place.subgridspec(1, 2, width_ratios=(ratio, 1))
        first = ax.figure.add_subplot(parts[0])
        return first, ax.figure.add_subplot(parts[1], sharey=first)
    parts = place.subgridspec(2, 1, height_ratios=(ratio, 1))
    first = ax.figure.add_subplot(parts[0])
    return first, ax.figure.add_subplot(parts[1], sharex=first)


def tidy(*axes: Any) -> None:
    """A faint grid below what is drawn, and no frame to the right and above."""
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.35, linewidth=0.6)
        ax.set_axisbelow(True)


def style(i: int, n: int) -> dict[str, Any]:
    """Colour, line style and marker of the i-th of n lines: the later, the lighter.

    Colours are those of the map cividis, whose luminance grows evenly; its bright end is left out.
    """
    import matplotlib as mpl

    at = 0.8 * i / max(1, n - 1)
    return {
        "color": mpl.colormaps["cividis"](at),
        "linestyle": STYLES[i % len(STYLES)],
        "marker": MARKERS[i % len(MARKERS)],
    }


def name_rows(ax: Any, names: Sequence[str]) -> None:
    """Names beside the y axis for rows 0, 1, ... from above; of many, every second, third, ..."""
    shown = every(len(names))
    ax.set_yticks(shown, [shortened(names[i]) for i in shown])
    ax.set_ylim(len(names) - 0.5, -0.5)


def every(n: int, most: int = MOST_NAMES) -> list[int]:
    """The places of n that are named: all, or every second, third, ..., the first among them."""
    return list(range(0, n, -(-n // most) or 1))


def shortened(name: str) -> str:
    """A name of at most `LONGEST_NAME` letters: its end, which tells more than its beginning."""
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


def legend_above(ax: Any, handles: Sequence[Any], columns: int) -> Any:
    """A legend over the axes, where it hides no line.

    It stands in Axes of its own, of its height and inset into those given, since matplotlib puts a
    title above these, and not above a legend.
    """
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    n_rows = -(-len(handles) // columns)
    height = (1.5 * n_rows + 0.7) * LETTERS / 72  # inches, with the space between rows and around
    inches = ax.figure.dpi_scale_trans + ScaledTranslation(0, 1, ax.transAxes)
    place = ax.inset_axes(
        (0, 0, 1, height), transform=blended_transform_factory(ax.transAxes, inches)
    )
    place.set_axis_off()
    return place.legend(
        handles=list(handles),
        loc="lower left",
        borderaxespad=0,
        ncols=columns,
        frameon=False,
        fontsize=LETTERS,
        handlelength=2.6,
    )


def log_scaled(ax: Any, which: str, *, least: float = 1.0) -> None:
    """Make the axis "x" or "y" a log axis; see ticks.py, which imports matplotlib."""
    from fastbp.displays import ticks

    ticks.log_scaled(ax, which, least=least)


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Our keywords for matplotlib with the user's in their place, whichever alias they have."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return {**normalize_kwargs(dict(ours), Line2D), **normalize_kwargs(dict(theirs or {}), Line2D)}
