"""Cases of recurrent layers."""

from fastbp.testing.opcase import Input, OpCase


def _cases(name: str, blocks: int, bias: bool) -> tuple[OpCase, ...]:
    """One cell with `blocks` gates: sizes about a cache line, one unit, one step, masks, reversed.

    Where the cell takes a recurrent bias, an empty one stands for none before a mask.
    """

    def inputs(n: int, steps: int, units: int, *, biased: bool, masked: bool) -> tuple[Input, ...]:
        p = Input((n, steps, blocks * units))
        given = [p, Input((units, blocks * units), scale=0.7 * units**-0.5)]
        if bias and (biased or masked):
            given.append(Input((units if biased else 0,)))
        if masked:
            given.append(Input((n, steps), "mask"))
        return tuple(given)

    return (
        OpCase(name, inputs(3, 4, 5, biased=bias, masked=False)),
        OpCase(name, inputs(3, 4, 5, biased=False, masked=True), {"reverse": 1}),
        OpCase(name, inputs(2, 7, 16, biased=False, masked=False), {"reverse": 1}),
        OpCase(name, inputs(35, 2, 3, biased=bias, masked=True)),
        # Enough rows that the gradient of the weights is formed in blocks of samples, and more
        # samples than pass the steps together.
        OpCase(name, inputs(70, 9, 2, biased=bias, masked=True), {"reverse": 1}),
        OpCase(name, inputs(2, 3, 17, biased=bias, masked=True)),
        OpCase(name, inputs(5, 1, 1, biased=bias, masked=False)),
        OpCase(name, inputs(1, 6, 1, biased=bias, masked=True)),
        OpCase(name, inputs(2, 0, 3, biased=bias, masked=False)),
    )


CASES = (
    *_cases("rnn", 1, bias=False),
    OpCase("rnn", (Input((3, 5, 4)), Input((4, 4), scale=0.5)), {"nonlinearity": 1}),
    OpCase(
        "rnn",
        (Input((2, 6, 19)), Input((19, 19), scale=0.2), Input((2, 6), "mask")),
        {"nonlinearity": 1, "reverse": 1},
    ),
    *_cases("lstm", 4, bias=False),
    *_cases("gru", 3, bias=True),
)
