"""Matrix products of training by our own kernels and by BLAS, in GFLOP/s over the width of a layer.

    python -m benchmarks.products            some minutes
    python -m benchmarks.products --quick    one round of the smallest: figures mean nothing

A plan leaves a layer's training products to BLAS from the widths in `blas_rules` of
cbackend/core/plan.c. It goes by the narrower side of a layer, and neither choice can be forced, so
what is timed is the gradient of a two-layer network: once as wide on both sides, and once, where
that brings BLAS, with one side just too narrow for it. Below the constant the third
figure stands in for BLAS: the same five products by SciPy's BLAS alone, on the tiles that the plan
would cut, without packing or loss. That flatters BLAS by a few per cent, as its two figures at
larger widths show. Figures are the best of all rounds, since only disturbances make a round slower.
"""

import argparse

import numpy as np
from scipy.linalg import blas

from benchmarks.rivals import equal_threads, interleaved

WIDTHS = (128, 256, 384, 512, 768, 1024, 1536, 2048)
BATCHES = (128, 256, 1024)
ROUNDS = 7
ENOUGH_FLOPS = 1e9  # of one measurement: some 10 ms


def network(n_in, width, dtype):
    """A plan of two layers, n_in - width - n_in."""
    from fastbp import _core

    layers = [("linear", {"units": width}), ("linear", {"units": n_in})]
    return _core.Plan(n_in, layers, ("squared_error", {}), dtype=dtype)


def widest_without_blas(width, dtype):
    """The most inputs, up to `width`, that leave a network of this width to our own kernels."""
    most = width
    while most > 1 and network(most, width, dtype).uses_blas:
        most -= 1
    return most


def gradient(plan, n_samples):
    """A function that evaluates the plan's gradient."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_samples, plan.n_inputs)).astype(plan.dtype)
    params = (rng.standard_normal(plan.n_params) / np.sqrt(plan.n_inputs)).astype(plan.dtype)
    grad = np.empty_like(params)
    return lambda: plan.loss_gradient(params, X, X, grad=grad)


def flops(n_in, width, n_samples):
    """Of the five products of that gradient: no gradient by the input of the first layer."""
    return 5 * 2.0 * n_samples * n_in * width


def row_tile(n_samples):
    """Rows of a tile of a plan that uses BLAS, as cbackend/core/plan.c cuts them."""
    return min(-(-n_samples // 64) * 64, 512)


def blas_products(width, n_samples, dtype):
    """A function that makes the same five products by SciPy's BLAS.

    BLAS is column-major: it wants transposes of row-major arrays, and the operands swap places.
    """
    gemm = blas.sgemm if dtype == np.float32 else blas.dgemm
    rng = np.random.default_rng(0)
    x, y, z = (rng.standard_normal((n_samples, width)).astype(dtype) for _ in range(3))
    w, dw = (rng.standard_normal((width, width)).astype(dtype) for _ in range(2))
    tile = row_tile(n_samples)

    def run():
        for first in range(0, n_samples, tile):
            rows = slice(first, first + tile)
            gemm(1.0, w.T, x[rows].T, c=y[rows].T, overwrite_c=1)
            gemm(1.0, w.T, y[rows].T, c=z[rows].T, overwrite_c=1)
            gemm(1.0, w.T, z[rows].T, c=y[rows].T, overwrite_c=1, trans_a=1)
        for _ in range(2):
            gemm(1.0, z.T, x.T, c=dw.T, overwrite_c=1, trans_b=1)

    return run


def repeated(function, times):
    def run():
        for _ in range(times):
            function()

    return run


def measure(width, n_samples, dtype, rounds):
    """GFLOP/s by name: own kernels, BLAS by the plan where it uses it, BLAS by itself."""
    functions, work = {}, {}
    for n_in in {width, widest_without_blas(width, dtype)}:
        plan = network(n_in, width, dtype)
        name = "BLAS in a plan" if plan.uses_blas else "own kernels"
        functions[name] = gradient(plan, n_samples)
        work[name] = flops(n_in, width, n_samples)
    functions["BLAS alone"] = blas_products(width, n_samples, dtype)
    work["BLAS alone"] = flops(width, width, n_samples)
    times = max(1, int(ENOUGH_FLOPS / flops(width, width, n_samples)))
    seconds = interleaved({n: repeated(f, times) for n, f in functions.items()}, rounds)
    return {name: times * work[name] / s.min() / 1e9 for name, s in seconds.items()}


COLUMNS = ("own kernels", "BLAS in a plan", "BLAS alone")


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products")
    parser.add_argument("--quick", action="store_true", help="one round; the figures mean nothing")
    quick = parser.parse_args().quick
    for dtype in (np.float32, np.float64):
        print(f"\n{dtype.__name__}, one thread, GFLOP/s")
        print("{:>6}{:>7}{:>14}{:>17}{:>13}".format("width", "batch", *COLUMNS))
        for width in WIDTHS[:1] if quick else WIDTHS:
            for batch in BATCHES[:1] if quick else BATCHES:
                with equal_threads(1):
                    found = measure(width, batch, dtype, 1 if quick else ROUNDS)
                cells = [f"{found[name]:.0f}" if name in found else "-" for name in COLUMNS]
                print("{:>6}{:>7}{:>14}{:>17}{:>13}".format(width, batch, *cells), flush=True)


if __name__ == "__main__":
    main()
