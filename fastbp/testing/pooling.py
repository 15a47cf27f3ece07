"""Cases of poolings, none with two equal elements in a window."""

from fastbp.testing.opcase import Input, Numbers, OpCase


def _pools(x: tuple[int, ...], kernel: Numbers, **attrs: Numbers) -> tuple[OpCase, ...]:
    """Both poolings of samples x."""
    attrs = {"kernel": kernel, **attrs}
    return (
        OpCase("max_pool", (Input(x, "distinct"),), attrs),
        OpCase("average_pool", (Input(x),), attrs),
        OpCase("average_pool", (Input(x),), {**attrs, "count_include_pad": 0}),
    )


CASES = (
    *_pools((3, 4, 6, 2), 2),
    # Lines and positions that no window holds.
    *_pools((2, 5, 7, 3), 2),
    *_pools((2, 7, 5, 3), [2, 1], stride=[3, 2]),
    # Windows that overlap, and that reach beyond the sample.
    *_pools((2, 6, 5, 3), 3, stride=2, padding=1),
    *_pools((2, 5, 6, 1), [3, 2], stride=1, padding=[1, 0]),
    *_pools((2, 4, 4, 2), [2, 4], padding=[1, 2]),
    # Channels that fill vectors, and more of them.
    *_pools((2, 4, 4, 16), 2),
    *_pools((2, 5, 4, 35), [3, 2], stride=2, padding=[1, 0]),
    # One dimension.
    *_pools((3, 9, 4), 3),
    *_pools((3, 10, 17), [4], stride=[2], padding=[2]),
    *_pools((1, 1, 1), 1),
    *_pools((20, 8, 1), 2),
)
