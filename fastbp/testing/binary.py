"""Cases of elementwise ops of several operands, which broadcast."""

from fastbp.testing.opcase import Input, OpCase

# How the shapes of two operands may meet.
SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((5, 3), (5, 3)),
    ((7, 2, 3), (7, 2, 3)),
    ((5, 17), (17,)),  # a row for all samples
    ((17,), (5, 17)),
    ((5, 4), ()),  # a number for all
    ((), (40, 33)),
    ((5, 4), (5, 1)),  # a number for each sample
    ((6, 1), (6, 300)),
    ((4, 5, 3), (4, 1, 3)),  # a row for all positions of a sample
    ((4, 5, 3), (1, 5, 1)),  # a column for all samples
    ((3, 2, 1, 5), (4, 1)),  # each is broadcast along an axis of the other
    ((3, 2, 1, 5), (3, 1, 4, 1)),
    ((2, 3, 4, 5), (2, 1, 4, 1)),
    ((2, 20, 30), (2, 1, 1)),  # runs of results longer than what is added up at once
    ((600, 3), (3,)),  # enough rows that a shared gradient is formed in blocks of samples
    ((9, 1), (1,)),
    ((9,), (9,)),
    ((9,), ()),
    ((), ()),
    ((1, 1), (1, 1)),
)
CURVED = ("multiply", "divide", "maximum", "minimum")
COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


def _second(name: str) -> str:
    return "positive" if name == "divide" else "normal"


CASES = (
    *(
        OpCase(name, (Input(a), Input(b, _second(name))))
        for name in ("add", "subtract", *CURVED)
        for a, b in (SHAPES if name != "subtract" else SHAPES[::3])
    ),
    # Zeros and ones, so that many are equal.
    *(
        OpCase(name, (Input(a, "mask"), Input(b, "mask")))
        for name in COMPARISONS
        for a, b in (SHAPES[0], SHAPES[2], SHAPES[10])
    ),
    *(
        OpCase("where", (Input(condition, "mask"), Input(a), Input(b)))
        for condition, a, b in (
            ((5, 4), (5, 4), (5, 4)),
            ((4,), (5, 4), (5, 4)),
            ((5, 1), (4,), (5, 4)),
            ((5, 17), (5, 17), ()),
            ((2, 1, 3), (2, 4, 1), (4, 3)),
            ((), (), ()),
        )
    ),
)
