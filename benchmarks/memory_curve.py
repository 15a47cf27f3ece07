"""Less memory for more time: steps made of several batches, with the bits of one.

    python -m benchmarks.memory_curve           a table, about a minute on a quiet machine
    python -m benchmarks.memory_curve --quick   once each, to see that it works

For a deep dense network, a convolutional one and a transformer: the bytes that the engine takes in
training (`Plan.memory`, exact), and the time of a step of 2048 samples,
made of 1, 2, 4 and 8 batches in turn. Where batches are multiples of 256 samples the weights after
the steps have the same bits, which is asserted.

Running parts of a network again in backward would take a third more time (Chen et al. 2016,
arXiv:1604.06174); batches of a step run one after the other take what smaller products lose.
"""

import argparse
from time import perf_counter

import numpy as np

PARTS = (1, 2, 4, 8)
ROUNDS = 5


def dense():
    from fastbp import nn

    layers = [layer for _ in range(24) for layer in (nn.Linear(256), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(10)), (64,), 2048


def convolutional():
    from fastbp import nn

    layers = [layer for _ in range(6) for layer in (nn.Conv2d(16, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(10)), (16, 16, 1), 2048


def transformer():
    from fastbp import nn

    blocks = [nn.TransformerBlock(4) for _ in range(4)]
    pooled = nn.Lambda(lambda x: x.mean(axis=1))
    return nn.Sequential(nn.Linear(64), *blocks, pooled, nn.Linear(10)), (32, 16), 2048


NETWORKS = {"24 dense layers": dense, "6 convolutions": convolutional, "4 blocks": transformer}


class Steps:
    """Steps of one network, each made of so many batches."""

    def __init__(self, make, parts):
        from fastbp import _core, compile

        network, shape, samples = make()
        network.build(shape, seed=0)
        self.plan = compile(network, "softmax_cross_entropy")
        self.flat = network._built().settle().copy()
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
    """A line for each number of batches: medians of rounds in which all have their turn."""
    steps = {parts: Steps(make, parts) for parts in PARTS}
    times = {parts: [] for parts in PARTS}
    for one in steps.values():
        one.seconds()
    for _ in range(rounds):
        for parts, one in steps.items():
            times[parts].append(one.seconds())
    for parts, one in steps.items():
        if one.same_bits:
            assert np.array_equal(one.flat, steps[1].flat), (name, parts)
    for parts, one in steps.items():
        memory = one.bytes / steps[1].bytes
        ratio = np.median(np.array(times[parts]) / np.array(times[1]))
        yield (
            f"| {name if parts == 1 else '':<16} | {parts:>7} | {one.bytes / 2**20:>8.1f} "
            f"| {memory:>6.0%} | {1e3 * np.median(times[parts]):>8.1f} | {ratio:>5.2f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once each: the figures mean nothing")
    rounds = 1 if parser.parse_args().quick else ROUNDS
    print("| network          | batches | MB       | memory | ms, step | time  |")
    print("| ---------------- | ------: | -------: | -----: | -------: | ----: |")
    for name, make in NETWORKS.items():
        for line in lines(name, make, rounds):
            print(line)


if __name__ == "__main__":
    main()
