"""Less memory for more time: checkpoints, and steps of several batches, with the bits of neither.

    python -m benchmarks.memory_curve           a table, about two minutes on a quiet machine
    python -m benchmarks.memory_curve --quick   once each, to see that it works

For a deep dense network, a convolutional one and a transformer: the bytes that the engine takes in
training (`Plan.memory`, exact), and the time of a step, where the layers are cut into 2, 4, 8 and
24 checkpoints (`nn.Checkpoint`), and where the step is made of 2, 4 and 8 batches in turn
(`accumulate`). The weights after the steps have the same bits, which is asserted; of batches where
they are multiples of 256 samples.

Checkpoints run their layers forward a second time: of forward and backward, which take one part and
two, that is a third more (Chen et al. 2016, arXiv:1604.06174). Batches that run one after the other
take what smaller products lose.
"""

import argparse
from itertools import pairwise
from time import perf_counter

import numpy as np

SEGMENTS = (2, 4, 8, 24)
PARTS = (2, 4, 8)
ROUNDS = 5


def dense():
    from fastbp import nn

    return [(nn.Linear(256), nn.ReLU()) for _ in range(24)], [nn.Linear(10)], (64,), 2048


def convolutional():
    from fastbp import nn

    layers = [(nn.Conv2d(12, 3, padding=1), nn.ReLU()) for _ in range(24)]
    return layers, [nn.MaxPool2d(4), nn.Flatten(), nn.Linear(10)], (12, 12, 1), 1024


def transformer():
    from fastbp import nn

    blocks = [(nn.TransformerBlock(4),) for _ in range(24)]
    blocks[0] = (nn.Linear(32), *blocks[0])
    pooled = nn.Lambda(lambda x: x.mean(axis=1))
    return blocks, [pooled, nn.Linear(10)], (16, 8), 1024


NETWORKS = {"24 dense layers": dense, "24 convolutions": convolutional, "24 blocks": transformer}


def network(make, segments):
    """In so many checkpoints (1: none), and the shape and number of its samples."""
    from fastbp import nn

    layers, head, shape, samples = make()
    cuts = np.linspace(0, len(layers), segments + 1).astype(int)
    parts = [
        nn.Sequential(*[one for layer in layers[begin:end] for one in layer])
        for begin, end in pairwise(cuts)
    ]
    if segments > 1:
        parts = [nn.Checkpoint(part) for part in parts]
    return nn.Sequential(*parts, *head), shape, samples


class Steps:
    """Steps of one network in so many checkpoints, each made of so many batches."""

    def __init__(self, make, segments, parts):
        from fastbp import _core, compile

        made, shape, samples = network(make, segments)
        made.build(shape, seed=0)
        self.plan = compile(made, "softmax_cross_entropy")
        self.flat = made._built().settle().copy()
        rng = np.random.default_rng(0)
        X = rng.standard_normal((samples, *shape)).astype(np.float32)
        y = rng.integers(0, 10, samples).astype(np.int32)
        size = samples // parts
        self.bytes = self.plan.memory(size, accumulate=parts, n_samples=samples)["total"]
        self.same_bits = size % 256 == 0
        self.training = _core.Training(
            self.plan.core,
            self.flat,
            X,
            y,
            rule="sgd",
            states=np.zeros((0, len(self.flat)), np.float32),
            batch_size=size,
            accumulate=parts,
        )
        self.epoch = 0

    def seconds(self):
        """Of one step."""
        before = perf_counter()
        self.training.run(np.full((1, 1), 1e-3), first_epoch=self.epoch)
        self.epoch += 1
        return perf_counter() - before


def lines(name, make, rounds):
    """A line for each way: medians of rounds in which all have their turn."""
    ways = [(1, 1), *[(n, 1) for n in SEGMENTS], *[(1, n) for n in PARTS]]
    steps = {way: Steps(make, *way) for way in ways}
    times = {way: [] for way in ways}
    for one in steps.values():
        one.seconds()
    for _ in range(rounds):
        for way, one in steps.items():
            times[way].append(one.seconds())
    first = steps[1, 1]
    for way, one in steps.items():
        if one.same_bits:
            assert np.array_equal(one.flat, first.flat), (name, way)
        segments, parts = way
        told = f"{segments} checkpoints" if segments > 1 else f"{parts} batches"
        ratio = np.median(np.array(times[way]) / np.array(times[1, 1]))
        yield (
            f"| {name if way == (1, 1) else '':<16} | {told if way != (1, 1) else '':<14} "
            f"| {one.bytes / 2**20:>8.1f} | {one.bytes / first.bytes:>6.0%} "
            f"| {1e3 * np.median(times[way]):>8.1f} | {ratio:>5.2f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once each: the figures mean nothing")
    rounds = 1 if parser.parse_args().quick else ROUNDS
    print("| network          | in             | MB       | memory | ms, step | time  |")
    print("| ---------------- | -------------- | -------: | -----: | -------: | ----: |")
    for name, make in NETWORKS.items():
        for line in lines(name, make, rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
