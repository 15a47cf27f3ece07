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
    OpCase("matmul", (Input((3, 4)), Input((4, 5)))),
    OpCase("matmul", (Input((3, 3)), Input((3, 3)))),
    OpCase("matmul", (Input((2, 7)), Input((7, 1)))),
    OpCase("matmul", (Input((1, 1)), Input((1, 1)))),
    OpCase("matmul", (Input((6, 3, 4)), Input((6, 4, 5)))),
    OpCase("matmul", (Input((6, 3, 4)), Input((4, 5)))),
    OpCase("matmul", (Input((3, 4)), Input((6, 4, 17)))),
    OpCase("matmul", (Input((1, 3, 4)), Input((6, 4, 5)))),
    OpCase("matmul", (Input((1, 3, 4)), Input((1, 4, 5)))),
    OpCase("matmul", (Input((4, 2, 1, 3, 6)), Input((5, 6, 2)))),
    OpCase("matmul", (Input((4, 3, 5, 6)), Input((4, 1, 6, 33)))),
    OpCase("matmul", (Input((3, 5, 6)), Input((2, 1, 6, 7)))),
    OpCase("matmul", (Input((2, 49, 67)), Input((2, 67, 51)))),
    OpCase("matmul", (Input((300, 5)), Input((5, 260)))),
    OpCase("matmul", (Input((2, 3, 0)), Input((2, 0, 4)))),
    OpCase("matmul", (Input((2, 0, 3)), Input((3, 4)))),
    # Enough rows that the gradient of what is shared is formed in blocks of samples.
    OpCase("matmul", (Input((90, 10, 3)), Input((3, 2)))),
)
