"""Prints one table: fastbp against scikit-learn and plain NumPy, for every shape and thread count.

    python -m benchmarks.table            some minutes; `make bench` does this
    python -m benchmarks.table --quick    once each, to see that it works: its figures mean nothing

Losses are seen to agree before training is timed. Times are of whole `fit` and `predict` calls in
float32. A figure is the median over rounds in which all have their turns, in one process, at equal
threads; behind a ratio stand its smallest and largest round. "of sgemm" is the share that a
training's FLOPs per second have of those of a large matrix product by NumPy's BLAS in the same
rounds, on as many threads: what no network of products can pass by much.
"""

import argparse
import datetime
import os
import platform
import sys
from pathlib import Path

import numpy as np
import scipy
import sklearn
import threadpoolctl

from benchmarks.gradient import backward_over_forward
from benchmarks.rivals import (
    FASTBP,
    PEERS,
    SKLEARN,
    equal_threads,
    interleaved,
    prediction,
    ratios,
    training,
)
from benchmarks.shapes import SHAPES, cores

ROUNDS = 7
SGEMM = "sgemm"
SGEMM_WIDTH = 1024
PREDICTED = {1: 200, 100_000: 1}  # rows of a call: calls that make a measurement
QUIET = 0.3  # load average, beyond which the machine was not quiet

HEAD = (
    "float32",
    "threads",
    FASTBP,
    *PEERS,
    *(f"x {peer}" for peer in PEERS),
    f"of {SGEMM}",
)


def sgemm():
    """A function that makes one large product, and its FLOPs."""
    a, b, c = (np.ones((SGEMM_WIDTH, SGEMM_WIDTH), np.float32) for _ in range(3))
    return lambda: np.matmul(a, b, out=c), 2.0 * SGEMM_WIDTH**3


def training_line(shape, n_threads, rounds):
    product, product_flops = sgemm()
    with equal_threads(n_threads):
        seconds = interleaved({**training(shape), SGEMM: product}, rounds)
    samples = shape.n_samples * shape.epochs
    flops = sum(shape.plan().flops(samples).values())
    share = np.median(flops / seconds[FASTBP] * seconds[SGEMM] / product_flops)
    name = f"{shape.name}, {shape.activation}, {shape.solver}, {shape.batch} a batch"
    return [name, str(n_threads), *_compared(seconds, samples), f"{share:.0%}"]


def prediction_line(shape, rows, n_threads, rounds):
    calls = PREDICTED[rows]
    with equal_threads(n_threads):
        seconds = interleaved(prediction(shape, rows, calls), rounds)
    name = f"{shape.name}, predict {rows:,} row{'s' if rows > 1 else ''}"
    return [name, str(n_threads), *_compared(seconds, rows * calls), ""]


def _compared(seconds, samples):
    """Samples a second of each rival, and how many times as fast as its peers fastbp was."""
    speeds = [_rounded(samples / np.median(seconds[name])) for name in (FASTBP, *PEERS)]
    compared = []
    for peer in PEERS:
        each = ratios(seconds, peer)
        compared.append(f"{np.median(each):.1f} ({each.min():.1f}-{each.max():.1f})")
    return speeds + compared


def _rounded(number):
    """Three digits of a large number: more would not be the same tomorrow."""
    digits = 3 - len(str(int(number)))
    return f"{int(round(number, min(digits, 0))):,}"


def markdown(lines):
    """The table, which reads well as it is and as Markdown."""
    lines = [list(HEAD), *lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    cells = [
        [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def gradients():
    """What backward costs, in forwards, for each shape."""
    costs = []
    for shape in SHAPES.values():
        time, flops = backward_over_forward(shape)
        costs.append(f"{shape.name} {time:.1f} ({flops:.1f})")
    return (
        "All gradients of a batch, in forward passes by time (and by FLOPs), one thread:\n"
        + ", ".join(costs)
    )


def machine():
    """Where this runs, and with what."""
    import fastbp
    from fastbp import _core

    isa = _core.build_info()["isa"]
    blas = {
        f"{pool['internal_api']} {pool['version']}"
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    }
    versions = {
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        SKLEARN: sklearn.__version__,
    }
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{datetime.date.today()}, {_processor()}, {cores()} cores, {platform.system()};\n"
        f"fastbp {fastbp.__version__} with its {isa} kernels, {listed}, {', '.join(sorted(blas))}"
    )


def _processor():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load():
    """How many processes wanted to run over the last minute; NaN where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table")
    parser.add_argument("--quick", action="store_true", help="one round; the figures mean nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    before = load()
    lines = []
    for n_threads in sorted({1, cores()}):
        for shape in SHAPES.values():
            print(f"  {shape}, threads: {n_threads}", file=sys.stderr)
            lines.append(training_line(shape, n_threads, rounds))
        for rows in PREDICTED:
            lines.append(prediction_line(SHAPES["54-256-256-7"], rows, n_threads, rounds))
    command = " ".join(["python -m benchmarks.table", *sys.argv[1:]])
    print(f"{command}\n{machine()}\n")
    print(f"Samples a second, and how many times as fast fastbp is: medians of {rounds} rounds")
    print("(behind a ratio its smallest and largest round)\n")
    print(markdown(lines), end="\n\n")
    print(gradients())
    if not before < QUIET:
        print(f"\nNOT QUIET: the load average was {before:.1f} before this began; do not publish.")
    if arguments.quick:
        print("\nQUICK: one round; do not publish.")


if __name__ == "__main__":
    main()
