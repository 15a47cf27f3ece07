"""Cases of reductions along axes."""

from fastbp.testing.opcase import Input, OpCase

# Shapes and axes: all, the last, the first, in between, several, counted from the end, none left.
AXES: tuple[tuple[tuple[int, ...], list[float]], ...] = (
    ((5, 3), []),
    ((5, 17), [-1]),
    ((5, 17), [0]),
    ((3, 4, 5), [1]),
    ((3, 4, 5), [0, 2]),
    ((3, 4, 5), [2, 0, 1]),
    ((2, 3, 4, 5), [-1, -3]),
    ((2, 3, 4, 5), [1, 2]),
    ((700,), [0]),  # longer than what is added up at once
    ((3, 300), [1]),
    ((300, 3), [0]),
    ((40, 1, 30), [0, 2]),
    ((4, 1), [1]),
    ((1, 4), [0]),
    ((), []),
)


def _cases(name: str, draw: str) -> tuple[OpCase, ...]:
    return tuple(
        OpCase(name, (Input(shape, draw),), {"axes": axes, "keepdims": keepdims})
        for keepdims in (0, 1)
        for shape, axes in (AXES if keepdims == 0 else AXES[1:12:3])
    )


CASES = (
    *_cases("sum", "normal"),
    *_cases("mean", "normal"),
    *_cases("max", "distinct"),
    *_cases("min", "distinct"),
    *_cases("logsumexp", "normal"),
    OpCase("sum", (Input((4, 3)),)),
    OpCase("logsumexp", (Input((4, 3), "distinct"),)),
)
