"""Prints one table: fastbp against its peers, for every shape and thread count.

    python -m benchmarks.table            some minutes; `make bench` does this
    python -m benchmarks.table --quick    once each, to see that it works: its figures mean nothing

The peers are scikit-learn, plain NumPy and, where they are installed, PyTorch and JAX; `--peers`,
`--shapes` and `--threads` pick some.

Losses are seen to agree before training is timed. Times are of whole `fit` and `predict` calls in
float32. A figure is the median over rounds in which all have their turns, in one process, at equal
threads; behind a ratio stand its smallest and largest round. "of sgemm" is the share that a
training's FLOPs per second have of those of a large matrix product by NumPy's BLAS in the same
rounds, on as many threads: what no network of products can pass by much.

Each thread count has a process of its own, which is started on as many cores: JAX can be limited in
no other way. All rivals take their turns inside of it, and those that can be told how many threads
to use are told so as well. Where the system cannot keep a process to some cores, JAX is left out
for fewer threads than cores. Compilation by PyTorch and JAX is outside of the times.
"""

import argparse
import datetime
import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import threadpoolctl

from benchmarks.gradient import backward_over_forward
from benchmarks.rivals import (
    COMPILED,
    FASTBP,
    JAX,
    NUMPY,
    SKLEARN,
    TORCH,
    equal_threads,
    has_cxx,
    installed,
    interleaved,
    prediction,
    ratios,
    training,
)
from benchmarks.shapes import LIGHT, SHAPES, SPARSE, cores

ROUNDS = 7
SGEMM = "sgemm"
SGEMM_WIDTH = 1024
PREDICTED = {1: 200, 1_000_000: 1}  # rows of a call: calls that make a measurement
QUIET = 0.3  # load average, beyond which the machine was not quiet
PREDICTING = "54-256-256-7"
ALL = {**SHAPES, SPARSE.name: SPARSE}
PACKAGES = {SKLEARN: "scikit-learn", NUMPY: "numpy", TORCH: "torch", JAX: "jax"}


def sgemm():
    """A function that makes one large product, and its FLOPs."""
    a, b, c = (np.ones((SGEMM_WIDTH, SGEMM_WIDTH), np.float32) for _ in range(3))
    return lambda: np.matmul(a, b, out=c), 2.0 * SGEMM_WIDTH**3


def limited(peers, n_threads, shape):
    """Those peers that keep to this many threads in this process: JAX takes all of its cores; and
    that take the shape's samples: scikit-learn alone where they are sparse."""
    if shape.density is not None:
        return [peer for peer in peers if peer == SKLEARN]
    return [peer for peer in peers if peer != JAX or n_threads >= cores()]


def training_line(shape, n_threads, peers, rounds):
    product, product_flops = sgemm()
    with equal_threads(n_threads):
        seconds = interleaved(
            {**training(shape, n_threads, limited(peers, n_threads, shape)), SGEMM: product}, rounds
        )
    samples = shape.n_samples * shape.epochs
    flops = sum(shape.plan().flops(samples).values())
    share = np.median(flops / seconds[FASTBP] * seconds[SGEMM] / product_flops)
    of_sgemm = f"{share:.0%}" if shape.density is None else ""
    name = f"{shape.name}, {shape.activation}, {shape.solver}, {shape.batch} a batch"
    return [name, str(n_threads), *_compared(seconds, peers, samples), of_sgemm]


def prediction_line(shape, rows, n_threads, peers, rounds):
    calls = PREDICTED[rows]
    with equal_threads(n_threads):
        seconds = interleaved(
            prediction(shape, rows, n_threads, limited(peers, n_threads, shape), calls), rounds
        )
    name = f"{shape.name}, predict {rows:,} row{'s' if rows > 1 else ''}"
    return [name, str(n_threads), *_compared(seconds, peers, rows * calls), ""]


def _compared(seconds, peers, samples):
    """Samples a second of each rival, and how many times as fast as its peers fastbp was.

    Of a peer that had no turns there is nothing to say.
    """
    speeds, compared = [_rounded(samples / np.median(seconds[FASTBP]))], []
    for peer in peers:
        if peer not in seconds:
            speeds.append("")
            compared.append("")
            continue
        each = ratios(seconds, peer)
        speeds.append(_rounded(samples / np.median(seconds[peer])))
        compared.append(f"{np.median(each):.1f} ({each.min():.1f}-{each.max():.1f})")
    return speeds + compared


def _rounded(number):
    """Three digits of a large number: more would not be the same tomorrow."""
    digits = 3 - len(str(int(number)))
    return f"{int(round(number, min(digits, 0))):,}"


def lines(n_threads, shapes, peers, rounds):
    """The table's lines for a thread count, shape by shape."""
    found = []
    for name in shapes:
        print(f"  {name}, threads: {n_threads}", file=sys.stderr)
        found.append(training_line(ALL[name], n_threads, peers, rounds))
    if PREDICTING in shapes:
        for rows in PREDICTED:
            found.append(prediction_line(SHAPES[PREDICTING], rows, n_threads, peers, rounds))
    return found


@contextmanager
def only_cores(n_cores):
    """Keep this thread, and processes started by it, to some of the cores it may use."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:n_cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def measured(n_threads, shapes, peers, rounds):
    """`lines` from a new process on as many cores."""
    spawn = multiprocessing.get_context("spawn")
    with only_cores(n_threads), ProcessPoolExecutor(1, mp_context=spawn) as process:
        return process.submit(lines, n_threads, shapes, peers, rounds).result()


def markdown(peers, lines):
    """The table, which reads well as it is and as Markdown."""
    ratios_to = [f"x {peer}" for peer in peers]
    lines = [["float32", "threads", FASTBP, *peers, *ratios_to, f"of {SGEMM}"], *lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    cells = [
        [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def gradients(shapes):
    """What backward costs, in forwards, for each shape."""
    costs = []
    for shape in (SHAPES[name] for name in shapes if name in SHAPES):
        time, flops = backward_over_forward(shape)
        costs.append(f"{shape.name} {time:.1f} ({flops:.1f})")
    return (
        "All gradients of a batch, in forward passes by time (and by FLOPs), one thread:\n"
        + ", ".join(costs)
    )


def machine(peers):
    """Where this runs, and with what."""
    import fastbp
    from fastbp import _core

    isa = _core.build_info()["isa"]
    blas = {
        f"{pool['internal_api']} {pool['version']}"
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    }
    versions = {"Python": platform.python_version(), "SciPy": version("scipy")}
    versions |= {peer: version(PACKAGES[peer]) for peer in peers if peer in PACKAGES}
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
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


def chosen():
    """The arguments of the command line; peers are those that can run here."""
    here = installed()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table")
    parser.add_argument("--quick", action="store_true", help="one round; the figures mean nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--shapes", nargs="+", choices=list(ALL), metavar="SHAPE")
    parser.add_argument("--peers", nargs="+", choices=here, default=here, metavar="PEER")
    parser.add_argument("--threads", nargs="+", type=int, choices=range(1, cores() + 1))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    arguments.shapes = arguments.shapes or (LIGHT if arguments.quick else list(ALL))
    arguments.threads = arguments.threads or sorted({1, cores()})
    return arguments


def main():
    arguments = chosen()
    shapes, peers, rounds = arguments.shapes, tuple(arguments.peers), arguments.rounds
    left_out = COMPILED in peers and not has_cxx()
    if left_out:
        peers = tuple(peer for peer in peers if peer != COMPILED)
    before = load()
    found = []
    for n_threads in arguments.threads:
        found += measured(n_threads, shapes, peers, rounds)
    command = " ".join(["python -m benchmarks.table", *sys.argv[1:]])
    print(f"{command}\n{machine(peers)}\n")
    print(f"Samples a second, and how many times as fast fastbp is: medians of {rounds} rounds")
    print("(behind a ratio its smallest and largest round)\n")
    print(markdown(peers, found), end="\n\n")
    print(gradients(shapes))
    if left_out:
        print(f"\n{COMPILED} is left out: it needs a C++ compiler, g++ or what CXX names.")
    if not before < QUIET:
        print(f"\nNOT QUIET: the load average was {before:.1f} before this began; do not publish.")
    if arguments.quick:
        print("\nQUICK: one round; do not publish.")


if __name__ == "__main__":
    main()
