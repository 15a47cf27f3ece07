"""What several test files share: parametrisation, bits, SciPy's differences, a network in training.

No test and no reference is here: those are in the test files and in reference.py.
"""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from fastbp import _core

DTYPES = [np.float32, np.float64]
over_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
over_inputs = pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])


def over(row_cases, argument="case"):
    """Parametrise a test over cases of rows, named after them."""
    return pytest.mark.parametrize(argument, row_cases, ids=str)


def bits(array):
    """The array's bytes as integers, so that NaN equals NaN and 0.0 differs from -0.0."""
    return array.view(f"u{array.itemsize}")


def central_difference(f, x, scale):
    """d f(x + t scale) / dt at t = 0, by SciPy; f maps arrays to arrays.

    The step h = eps^(1/3) balances truncation, h^2/6 f''', and rounding, eps f / h: both are near
    4e-11 for a function of size and curvature 1.
    """
    step = np.finfo(np.float64).eps ** (1 / 3)
    one_sided = [
        approx_fprime(np.zeros(1), lambda t: np.ravel(f(x + t[0] * scale)), h)
        for h in (step, -step)
    ]
    return (sum(one_sided) / 2).reshape(np.shape(f(x)))


def aligned(n_rows, length, dtype):
    """Zeros (n_rows, length) of which every row begins on a cache line of 64 bytes."""
    itemsize = np.dtype(dtype).itemsize
    stride = -(-length * itemsize // 64) * 64
    raw = np.zeros(n_rows * stride + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n_rows * stride].view(dtype).reshape(n_rows, -1)[:, :length]


class Run:
    """A network in training, with parameters and states of its own."""

    def __init__(self, net, rule="adam", attrs=None, **options):
        (row,) = (row for row in _core.table() if (row["kind"], row["name"]) == ("rule", rule))
        self.params = net.params.copy()
        self.states = np.zeros((row["n_states"], net.plan.n_params), net.plan.dtype)
        options.setdefault("batch_size", 5)
        self.training = _core.Training(
            net.plan,
            self.params,
            net.X,
            net.y,
            rule=rule,
            attrs=attrs,
            states=self.states,
            **options,
        )
        self.step = 0
        self.epoch = 0

    def __call__(self, epochs, rate=0.01, **options):
        result = self.training.run(
            np.full(epochs, rate), first_epoch=self.epoch, step=self.step, **options
        )
        self.step = result["step"]
        self.epoch += result["epochs"]
        return result

    def same_as(self, other):
        np.testing.assert_array_equal(self.params, other.params)
        np.testing.assert_array_equal(self.states, other.states)
