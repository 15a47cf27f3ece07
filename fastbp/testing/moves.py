"""Cases of ops that move elements: of another shape, a part of an array, an array as a part."""

from fastbp.testing.opcase import Input, Numbers, OpCase


def _one(name: str, of: tuple[int, ...], /, **attrs: Numbers) -> OpCase:
    return OpCase(name, (Input(of),), attrs)


CASES = (
    _one("reshape", (2, 3, 4), shape=(4, 6)),
    _one("reshape", (6, 5), shape=(5, 3, 2)),
    _one("reshape", (7,), shape=(7, 1)),
    _one("reshape", (1, 1), shape=()),
    _one("reshape", (), shape=(1,)),
    _one("reshape", (3, 0), shape=(0, 5)),
    _one("transpose", (3, 5), axes=(1, 0)),
    _one("transpose", (3, 5), axes=(0, 1)),
    _one("transpose", (37, 70), axes=(-1, 0)),
    _one("transpose", (2, 3, 4, 5), axes=(0, 2, 1, 3)),
    _one("transpose", (2, 3, 1, 5), axes=(3, 2, 0, 1)),
    _one("transpose", (33, 4, 18), axes=(2, 1, 0)),
    _one("transpose", (2, 1, 3, 2, 1, 2, 2, 3), axes=(7, 2, 1, 0, 4, 3, 6, 5)),
    _one("transpose", (), axes=()),
    _one("transpose", (4, 0, 3), axes=(2, 0, 1)),
    _one("index", (9,), starts=(1,), steps=(3,), counts=(3,)),
    _one("index", (9,), starts=(8,), steps=(-1,), counts=(9,)),
    _one("index", (5, 7), starts=(1, 6), steps=(2, -2), counts=(2, 4)),
    _one("index", (5, 7), starts=(0, 2), steps=(1, 1), counts=(5, 3)),
    _one("index", (5, 7), starts=(3, 0), steps=(-1, 1), counts=(1, 7)),
    _one("index", (4, 3, 6, 5), starts=(3, 1, 0, 4), steps=(-1, 1, 5, -3), counts=(4, 1, 2, 2)),
    _one("index", (3, 4), starts=(3, 9), steps=(1, -9), counts=(0, 0)),
    _one("index", (), starts=(), steps=(), counts=()),
    _one("pad", (3,), before=(2,), after=(1,)),
    _one("pad", (3, 17), before=(0, 1), after=(4, 0), value=-2.5),
    _one("pad", (2, 1, 3), before=(1, 0, 2), after=(0, 3, 0), value=7.0),
    _one("pad", (2, 3), before=(0, 0), after=(0, 0)),
    _one("pad", (0, 3), before=(1, 0), after=(1, 1), value=1.0),
    OpCase("concatenate", (Input((2, 3)), Input((4, 3)), Input((1, 3)))),
    OpCase("concatenate", (Input((2, 3)), Input((2, 1)), Input((2, 17))), {"axis": -1}),
    OpCase("concatenate", (Input((2, 3, 4)), Input((2, 2, 4))), {"axis": 1}),
    OpCase("concatenate", (Input((5,)),)),
    OpCase("concatenate", (Input((2, 0)), Input((2, 3)), Input((2, 0))), {"axis": 1}),
    OpCase("concatenate", tuple(Input((n, 2)) for n in range(1, 9))),
    _one("broadcast", (3,), shape=(3,)),
    _one("broadcast", (3,), shape=(4, 3)),
    _one("broadcast", (1,), shape=(50,)),
    _one("broadcast", (), shape=(2, 3)),
    _one("broadcast", (4, 1), shape=(4, 19)),
    _one("broadcast", (2, 1, 3), shape=(5, 2, 6, 3)),
    _one("broadcast", (1, 5, 1), shape=(3, 5, 40)),
    _one("broadcast", (2, 1), shape=(2, 0)),
)
