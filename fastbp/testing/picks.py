"""Cases of ops that pick elements by integers."""

from fastbp.testing.opcase import Input, OpCase


def _from(length: int, *shape: int) -> Input:
    """Indices into an axis of that length, from either end."""
    return Input(shape, "index", below=length, least=-length)


CASES = (
    OpCase("take", (Input((5, 3)), _from(5, 4)), {"axis": 0}),
    OpCase("take", (Input((5, 3)), _from(5)), {"axis": 0}),
    OpCase("take", (Input((5, 3)), _from(3)), {"axis": 1}),
    OpCase("take", (Input((6,)), _from(6)), {"axis": 0}),
    OpCase("take", (Input((6,)), _from(6, 4, 9)), {"axis": 0}),
    OpCase("take", (Input((2, 5, 3)), _from(5, 2, 4)), {"axis": 1}),
    OpCase("take", (Input((2, 3, 5)), _from(5, 17)), {"axis": -1}),
    OpCase("take", (Input((2, 1, 3)), _from(1, 6)), {"axis": 1}),
    OpCase("take", (Input((2, 5, 1)), _from(5, 3, 2)), {"axis": 1}),
    OpCase("take", (Input((3, 4)), _from(3, 0)), {"axis": 0}),
    OpCase("take", (Input((3, 0)), _from(3, 2)), {"axis": 0}),
    OpCase("take", (Input((2, 1, 2, 1, 2, 3)), _from(2, 2, 1, 2)), {"axis": 2}),
    OpCase("take_along", (Input((5, 3)), _from(5, 7, 3)), {"axis": 0}),
    OpCase("take_along", (Input((5, 3)), _from(3, 5, 1)), {"axis": 1}),
    OpCase("take_along", (Input((5, 3)), _from(3, 1, 18)), {"axis": -1}),
    OpCase("take_along", (Input((1, 3, 4)), _from(3, 6, 2, 4)), {"axis": 1}),
    OpCase("take_along", (Input((6, 3, 4)), _from(6, 2, 1, 1)), {"axis": 0}),
    OpCase("take_along", (Input((4,)), _from(4, 9)), {"axis": 0}),
    OpCase("take_along", (Input((4, 2)), _from(2, 4, 0)), {"axis": 1}),
    OpCase("embedding", (_from(9, 4), Input((9, 5)))),
    OpCase("embedding", (_from(9, 4, 3), Input((9, 17)))),
    OpCase("embedding", (_from(3, 2, 3, 2), Input((3, 1)))),
    OpCase("embedding", (_from(1, 1), Input((1, 1)))),
    # Enough rows that the gradient of the table is formed in blocks of samples.
    OpCase("embedding", (_from(11, 90, 10), Input((11, 3)))),
)
