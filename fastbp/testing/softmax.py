"""Cases of softmax along an axis."""

from fastbp.testing.opcase import Input, OpCase

# Whole blocks, ragged ones, long rows in several pieces, one element; other axes than the last.
AXES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((5, 16), -1),
    ((5, 3), -1),
    ((3, 37), 1),
    ((2, 2500), -1),
    ((7,), 0),
    ((4, 1), -1),
    ((2, 3, 10), 2),
    ((5, 3), 0),
    ((2, 5, 3), 1),
    ((2, 3, 4, 5), 1),
    ((2, 3, 4, 5), -2),
    ((300, 2), 0),
    ((1, 4), 0),
)

CASES = tuple(
    OpCase(name, (Input(shape),), {"axis": axis})
    for name in ("softmax", "log_softmax")
    for shape, axis in AXES
)
