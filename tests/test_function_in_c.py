"""A layer in C without a change of the engine (R95): a `Function` whose two ways are compiled."""

import ctypes
import shlex
import shutil
import subprocess
import sysconfig

import numpy as np
import pytest

from fastbp import Function, Tensor, compile, fit, nn

# In both types: differences are taken in double.
SOFTSIGN = """
#include <math.h>

#define SOFTSIGN(real, size)                                                   \\
    void forward_##size(long n, const real *x, real *y) {                      \\
        for (long i = 0; i < n; i++) y[i] = x[i] / (1 + (real)fabs(x[i]));     \\
    }                                                                          \\
    void backward_##size(long n, const real *x, const real *dy, real *dx) {    \\
        for (long i = 0; i < n; i++) {                                         \\
            real root = 1 + (real)fabs(x[i]);                                  \\
            dx[i] = (real)FAULT * dy[i] / (root * root);                       \\
        }                                                                      \\
    }

SOFTSIGN(float, 4)
SOFTSIGN(double, 8)
"""


def compiled(folder, fault=1.0):
    """A Function of what a C compiler makes of that; its backward is multiplied by the fault."""
    cc = shlex.split(sysconfig.get_config_var("CC") or "cc")
    if shutil.which(cc[0]) is None:
        pytest.skip("no C compiler")
    source, library = folder / "softsign.c", folder / "softsign.so"
    source.write_text(SOFTSIGN)
    flags = ["-O2", "-shared", "-fPIC", f"-DFAULT={fault}"]
    subprocess.run([*cc, *flags, source, "-o", library, "-lm"], check=True)
    c = ctypes.CDLL(str(library))

    def run(way, *arrays):
        x = arrays[0]
        array = np.ctypeslib.ndpointer(x.dtype, shape=x.shape, flags="C_CONTIGUOUS")
        function = getattr(c, f"{way}_{x.itemsize}")
        function.argtypes, function.restype = [ctypes.c_long] + [array] * len(arrays), None
        function(x.size, *arrays)
        return arrays[-1]

    class Softsign(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return run("forward", x, np.empty_like(x))

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved
            return run("backward", x, np.ascontiguousarray(dy), np.empty_like(x))

    return Softsign


def samples():
    X = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    return X, np.tanh(X[:, :1] - X[:, 1:2])


def network(function):
    return nn.Sequential(nn.Linear(8), nn.Lambda(function.apply), nn.Linear(1)).build(4, seed=0)


def test_it_has_a_gradient_and_trains(tmp_path):
    softsign = compiled(tmp_path)
    x = np.array([-2.0, 0.0, 0.5], np.float32)
    at_once = Tensor(x, requires_grad=True)
    softsign.apply(at_once).sum().backward()
    # Each is rounded three times; the sum multiplies by one.
    np.testing.assert_allclose(at_once.grad, 1 / (1 + np.abs(x)) ** 2, rtol=3 * 2.0**-23)
    X, y = samples()
    result = fit(network(softsign), "squared_error", X, y, max_epochs=60, learning_rate_init=0.02)
    losses = result.history["loss"]
    assert losses[-1] < losses[0] / 10
    assert "Softsign" in str(compile(network(softsign), "squared_error").describe())


def test_a_wrong_backward_in_c_is_refused(tmp_path):
    X, y = samples()
    wrong = compiled(tmp_path, 1.05)
    with pytest.raises(ValueError, match="Softsign"):
        fit(network(wrong), "squared_error", X, y, max_epochs=1)
