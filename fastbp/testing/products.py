"""Cases of ops that are matrix products."""

from fastbp.testing.opcase import Input, OpCase

CASES = (
    OpCase("linear", (Input((5, 3)), Input((3, 4)), Input((4,)))),
    OpCase("linear", (Input((5, 3)), Input((3, 4)))),
    OpCase("linear", (Input((6, 2, 3)), Input((3, 1)), Input((1,)))),
    OpCase("linear", (Input((2, 3, 4, 17)), Input((17, 33)), Input((33,)))),
    # Enough rows that the gradient of the weights is formed in blocks of samples.
    OpCase("linear", (Input((90, 10, 3)), Input((3, 2)), Input((2,)))),
    OpCase("linear", (Input((1, 1)), Input((1, 1)), Input((1,)))),
)
