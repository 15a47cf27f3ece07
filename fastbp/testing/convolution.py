"""Cases of convolutions."""

from fastbp.testing.opcase import Input, Numbers, OpCase


def _conv(
    x: tuple[int, ...],
    kernel: tuple[int, ...],
    outputs: int,
    *,
    bias: bool = True,
    groups: int = 1,
    **attrs: Numbers,
) -> OpCase:
    """A case of samples x with as many outputs, and of w and b as they follow from that."""
    w = Input((*kernel, x[-1] // groups, outputs))
    return OpCase(
        "conv", (Input(x), w, *([Input((outputs,))] if bias else [])), {**attrs, "groups": groups}
    )


CASES = (
    _conv((3, 5, 6, 2), (3, 2), 4),
    _conv((3, 5, 6, 2), (3, 2), 4, bias=False),
    _conv((2, 7, 5, 3), (3, 3), 5, padding=1),
    _conv((2, 7, 8, 3), (3, 2), 17, padding=[2, 1], stride=[2, 3], dilation=[1, 2]),
    # Whole vectors, and as many panels of them as take different ways.
    _conv((2, 4, 5, 16), (3, 3), 32, padding=1),
    _conv((1, 3, 3, 4), (2, 2), 85),
    # A stride that is beyond the kernel, and one that shares a factor with the dilation.
    _conv((2, 9, 4, 1), (2, 1), 3, stride=[5, 3]),
    _conv((2, 9, 11, 2), (3, 3), 2, stride=[4, 2], dilation=[2, 4], padding=[0, 6]),
    # More padding than the kernel reaches.
    _conv((2, 3, 2, 1), (2, 1), 1, padding=[3, 2], stride=[1, 2]),
    _conv((2, 4, 3, 4), (2, 2), 6, groups=2, padding=1),
    _conv((2, 5, 4, 6), (3, 3), 6, groups=6, padding=[1, 0], stride=2),
    _conv((2, 4, 3, 2), (2, 3), 34, groups=2),
    _conv((2, 4, 3, 5), (1, 1), 3),
    _conv((2, 4, 4, 5), (1, 1), 3, stride=2),
    # One dimension.
    _conv((3, 9, 4), (3,), 5, padding=1),
    _conv((3, 10, 2), (4,), 3, padding=[2], stride=[3], dilation=2),
    _conv((1, 1, 1), (1,), 1),
    _conv((3, 7, 18), (3,), 18, groups=18),
    # Channels apart that are more than a panel has.
    _conv((2, 5, 53), (3,), 53, groups=53, padding=1),
    # Enough positions that the gradient of the weights is formed in blocks of samples.
    _conv((40, 6, 7, 1), (3, 3), 2, padding=1),
    _conv((70, 12, 3), (3,), 2),
)
