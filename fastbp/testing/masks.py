"""Cases of ops with random masks."""

from fastbp.testing.opcase import Input, OpCase

CASES = tuple(
    case
    for name in ("dropout", "alpha_dropout")
    for case in (
        OpCase(name, (Input((5, 7)),), draws=(1, 2, 3)),
        OpCase(name, (Input((4, 3, 17)),), {"p": 0.1}, draws=(2**40 + 1, 2**33 + 7, 2**31)),
        OpCase(name, (Input((3, 64)),), {"p": 0.9}, draws=(0, 0, 0)),
        OpCase(name, (Input((2, 2, 4, 33)),), {"p": 0.3}, draws=(7, 1, 1)),
        OpCase(name, (Input((4, 1)),), {"p": 0.5}, draws=(7, 1, 1)),
        OpCase(name, (Input((6,)),), {"p": 0.5}, draws=(7, 1, 1)),
        OpCase(name, (Input((5, 7)),), {"p": 0.0}, draws=(1, 2, 3)),
        OpCase(name, (Input((5, 7)),), draws=(1, 2, 3), training=False),
    )
)
