"""Warnings that point at the user's line, whatever fastbp's own calls in between."""

import os
import sys
import warnings
from pathlib import Path
from types import FrameType

_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def warn_of_interruption(made: int, unit: str, *, shown: str) -> None:
    """Warn that Ctrl-C ended training after so many whole epochs or iterations; `shown` is the one
    whose weights the model has.
    """
    if made == 0:
        warn(
            f"Training was interrupted before the first {unit} was complete; the model's weights"
            " are those from before training."
        )
    else:
        warn(
            f"Training was interrupted after {made} whole {unit}s; the model is that of the"
            f" {shown}."
        )


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of something that the user's call brought about: at the first frame outside fastbp."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_in_between(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_in_between(frame: FrameType) -> bool:
    """Whether it is fastbp's, or that of what scikit-learn puts around its `fit`."""
    wraps = str(frame.f_globals.get("__name__", "")).startswith("sklearn.callback.")
    return wraps or frame.f_code.co_filename.startswith(_PACKAGE)
