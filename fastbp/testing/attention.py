"""Cases of attention."""

from fastbp.testing.opcase import Input, Numbers, OpCase


def _apart(
    samples: int, queries: int, keys: int, width: int, *, mask: bool = False, **attrs: Numbers
) -> OpCase:
    inputs = [Input((samples, length, width)) for length in (queries, keys, keys)]
    if mask:
        inputs.append(Input((samples, keys), "mask"))
    return OpCase("attention", tuple(inputs), attrs)


def _packed(
    samples: int, length: int, width: int, *, mask: bool = False, **attrs: Numbers
) -> OpCase:
    inputs = [Input((samples, length, 3 * width))]
    if mask:
        inputs.append(Input((samples, length), "mask"))
    return OpCase("self_attention", tuple(inputs), attrs)


CASES = (
    _apart(3, 1, 1, 1),
    _apart(4, 5, 5, 3),
    _apart(2, 5, 5, 3, causal=1),
    _apart(3, 5, 5, 6, heads=2, mask=True),
    _apart(2, 5, 5, 6, heads=2, mask=True, causal=1),
    _apart(2, 5, 3, 4, heads=4, scale=0.7),
    _apart(2, 3, 5, 4, heads=4, causal=1),
    _apart(2, 7, 3, 9, heads=3, causal=1, mask=True),
    _apart(1, 33, 34, 8),
    _apart(2, 33, 33, 32, heads=4, causal=1),
    _apart(1, 33, 33, 64, heads=2, scale=0.25),
    # Several blocks of queries and of keys.
    _apart(2, 130, 130, 8, causal=1),
    _apart(2, 130, 140, 16, heads=2, mask=True),
    _apart(1, 40, 290, 3, mask=True),
    _apart(1, 290, 40, 3, causal=1),
    _apart(1, 150, 290, 6, heads=2, causal=1, mask=True),
    _packed(3, 1, 2, heads=2),
    _packed(4, 5, 3, heads=3),
    _packed(3, 5, 16, heads=2, mask=True),
    _packed(2, 33, 24, heads=3, causal=1),
    _packed(2, 130, 32, causal=1, mask=True, scale=0.3),
    _packed(1, 130, 12, heads=4),
)
