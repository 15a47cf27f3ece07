"""Training in mixed precision beside float32: the time of a step, and the bytes that it takes.

    python -m benchmarks.mixed_precision                 a table, about two minutes when quiet
    python -m benchmarks.mixed_precision --threads 1 2   on so many threads each
    python -m benchmarks.mixed_precision --quick         once each, to see that it works

Each network trains by adam in "full" precision, "bf16" and "fp16", interleaved in rounds, each in a
plan of its own; bytes are those of `Plan.memory`, exact. Arithmetic is float32's in all three: what
mixed precision costs is the rounding, and what it saves is memory that is neither taken nor read.
"""

import argparse
from time import perf_counter

import numpy as np

from benchmarks.table import QUIET, load, machine

PRECISIONS = ("full", "bf16", "fp16")
ROUNDS = 7
SECONDS = 0.1  # of a measurement, about


def dense(*widths):
    from fastbp import nn

    layers = [layer for width in widths[:-1] for layer in (nn.Linear(width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1]))


def convolutional():
    from fastbp import nn

    layers = []
    for channels in (16, 32):
        layers += [nn.Conv2d(channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(10))


def transformer():
    from fastbp import nn

    blocks = [nn.TransformerBlock(4) for _ in range(4)]
    pooled = nn.Lambda(lambda x: x.mean(axis=1))
    return nn.Sequential(nn.Linear(128), *blocks, pooled, nn.Linear(10))


def lstm():
    from fastbp import nn

    return nn.Sequential(nn.LSTM(64), nn.Lambda(lambda x: x[:, -1]), nn.Linear(10))


NETWORKS = {  # the network, the shape of a sample, the samples of a step
    "64-100-10": (lambda: dense(100, 10), (64,), 200),
    "54-256-256-7": (lambda: dense(256, 256, 7), (54,), 256),
    "784-512-256-10": (lambda: dense(512, 256, 10), (784,), 128),
    "1024-2048-2048-1000": (lambda: dense(2048, 2048, 1000), (1024,), 1024),
    "24 layers of 256": (lambda: dense(*[256] * 24, 10), (64,), 2048),
    "convolutions": (convolutional, (28, 28, 1), 128),
    "transformer": (transformer, (128, 16), 16),
    "lstm": (lstm, (64, 16), 32),
}


class Steps:
    """Steps of one network in one precision."""

    def __init__(self, name, precision, n_threads):
        from fastbp import _core, compile

        make, shape, samples = NETWORKS[name]
        network = make().build(shape, seed=0)
        plan = compile(network, "softmax_cross_entropy", precision=precision)
        self.bytes = plan.memory(samples, n_threads=n_threads, optimizer="adam")["total"]
        rng = np.random.default_rng(0)
        X = rng.standard_normal((samples, *shape)).astype(np.float32)
        y = rng.integers(0, 10 if plan.core.n_outputs == 10 else 7, samples).astype(np.int32)
        self.training = _core.Training(
            plan.core,
            network._home.settle(),
            X,
            y,
            rule="adam",
            states=np.zeros((2, plan.core.n_params), np.float32),
            batch_size=samples,
            n_threads=n_threads,
        )
        self.steps = 1

    def seconds(self):
        """Of a step, the mean of some."""
        before = perf_counter()
        self.training.run(np.full(self.steps, 1e-6))
        return (perf_counter() - before) / self.steps


def line(name, n_threads, rounds):
    """Medians over rounds in which each precision has its turn."""
    steps = {precision: Steps(name, precision, n_threads) for precision in PRECISIONS}
    for one in steps.values():
        one.seconds()
    one_step = steps["full"].seconds()
    for one in steps.values():
        one.steps = max(1, round(SECONDS / one_step)) if rounds > 1 else 1
    times = np.array([[one.seconds() for one in steps.values()] for _ in range(rounds)])
    cells = [f"{1e3 * np.median(times[:, 0]):>9.3f}", f"{steps['full'].bytes / 2**20:>8.2f}"]
    for i, precision in enumerate(PRECISIONS[1:], 1):
        cells.append(f"{np.median(times[:, i] / times[:, 0]):>9.2f}")
        cells.append(f"{steps[precision].bytes / steps['full'].bytes:>11.0%}")
    return f"| {name:<20} | {n_threads:>7} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once each: the figures mean nothing")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N")
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS)
    given = parser.parse_args()
    before = load()
    print(
        "| network              | threads | ms, float32 | MB | time, bf16 | memory, bf16 "
        "| time, fp16 | memory, fp16 |"
    )
    print("| -------------------- | ------: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in given.networks:
        for n_threads in given.threads:
            print(line(name, n_threads, 1 if given.quick else ROUNDS), flush=True)
    print(machine([]))
    if not before < QUIET:
        print(f"NOT QUIET: the load average was {before:.1f} before this began; do not publish.")


if __name__ == "__main__":
    main()
