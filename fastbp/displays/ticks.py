"""Log axes whose numbers read as numbers: 0.2 and 500, and powers of ten beyond.

The one module of displays that imports matplotlib itself, and so is imported only to draw.
"""

from __future__ import annotations

from typing import Any

from matplotlib.ticker import LogFormatterMathtext

_LEAST, _MOST = 1e-3, 1e4  # what is written out


class PlainLogFormatter(LogFormatterMathtext):
    """As matplotlib labels ticks of a log axis, written out where all of the axis is near 1."""

    def __call__(self, x: float, pos: Any = None) -> str:
        text = super().__call__(x, pos)
        if self.axis is None or not text:
            return text
        low, high = sorted(self.axis.get_view_interval())
        return f"{x:g}" if low >= _LEAST and high <= _MOST else text


def log_scaled(ax: Any, which: str, *, least: float = 1.0) -> None:
    """Make the axis "x" or "y" a log axis, whose end is at least so many times its beginning."""
    ax.set(**{f"{which}scale": "log"})
    axis = getattr(ax, f"{which}axis")
    axis.set_major_formatter(PlainLogFormatter())
    axis.set_minor_formatter(PlainLogFormatter(minor_thresholds=(1.3, 0.4)))
    low, high = getattr(ax, f"get_{which}lim")()
    short = least * low / high
    if short > 1:
        getattr(ax, f"set_{which}lim")(low / short**0.5, high * short**0.5)
