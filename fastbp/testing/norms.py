"""Cases of ops that normalise."""

from fastbp.testing.opcase import Input, OpCase


def _affine(width: int, many: int) -> tuple[Input, ...]:
    """So many of gain and bias."""
    return (Input((width,)), Input((width,)))[:many]


def _moments(channels: int) -> Input:
    """Means and variances."""
    return Input((2, channels), "positive")


CASES = (
    OpCase("layer_norm", (Input((5, 7)), *_affine(7, 2))),
    OpCase("layer_norm", (Input((5, 7)), *_affine(7, 1))),
    OpCase("layer_norm", (Input((5, 7)),), {"epsilon": 0.3}),
    OpCase("layer_norm", (Input((3, 2, 4, 16)), *_affine(16, 2)), {"epsilon": 0.01}),
    OpCase("layer_norm", (Input((4, 1)), *_affine(1, 2)), {"epsilon": 0.5}),
    OpCase("layer_norm", (Input((1, 2)), *_affine(2, 2)), {"epsilon": 0.1}),
    # Wider than what is summed at once, and not a multiple of the lanes.
    OpCase("layer_norm", (Input((2, 3, 301)), *_affine(301, 2))),
    # Enough rows that the gradient of the gain is formed in blocks of samples.
    OpCase("layer_norm", (Input((90, 10, 3)), *_affine(3, 2)), {"epsilon": 0.1}),
    OpCase("rms_norm", (Input((5, 7)), *_affine(7, 1))),
    OpCase("rms_norm", (Input((5, 7)),), {"epsilon": 0.3}),
    OpCase("rms_norm", (Input((3, 2, 4, 33)), *_affine(33, 1)), {"epsilon": 0.01}),
    OpCase("rms_norm", (Input((4, 1)), *_affine(1, 1)), {"epsilon": 0.5}),
    OpCase("rms_norm", (Input((90, 10, 3)), *_affine(3, 1)), {"epsilon": 0.1}),
    OpCase("group_norm", (Input((5, 6)), *_affine(6, 2)), {"groups": 2}),
    OpCase("group_norm", (Input((5, 6)), *_affine(6, 1)), {"groups": 1}),
    OpCase("group_norm", (Input((4, 3, 2, 6)), *_affine(6, 2)), {"groups": 3}),
    OpCase("group_norm", (Input((3, 5, 4)),), {"groups": 4, "epsilon": 0.3}),
    OpCase("group_norm", (Input((2, 7, 34)), *_affine(34, 2)), {"groups": 2}),
    OpCase("group_norm", (Input((2, 3, 1)), *_affine(1, 2)), {"groups": 1, "epsilon": 0.1}),
    OpCase("group_norm", (Input((90, 10, 4)), *_affine(4, 2)), {"groups": 2}),
    OpCase("normalize", (Input((5, 6)), _moments(6), *_affine(6, 2))),
    OpCase("normalize", (Input((5, 6)), _moments(6), *_affine(6, 1)), {"epsilon": 0.3}),
    OpCase("normalize", (Input((4, 3, 2, 33)), _moments(33))),
    OpCase("normalize", (Input((3, 1)), _moments(1), *_affine(1, 2))),
    OpCase("normalize", (Input((90, 10, 4)), _moments(4), *_affine(4, 2))),
    OpCase("moments", (Input((5, 6)),)),
    OpCase("moments", (Input((1, 3)),)),
    OpCase("moments", (Input((3, 2, 17)),)),
    OpCase("moments", (Input((4, 1)),)),
    # Of several blocks, the last one not full.
    OpCase("moments", (Input((90, 7, 3)),)),
)
