"""Networks put together at random: what test_random_graphs.py runs.

Each is a Module whose forward is a program drawn from its seed: values are taken from those
made so far, so that nodes are shared, pass others, or come to nothing; parameters are taken from
those that fit, so that some are used several times.
"""

import numpy as np

from fastbp import nn, ops

INPUT = (4, 6)  # positions and channels of a sample
OUTPUTS = 3
STEPS = 9


class RandomNetwork(nn.Module):
    """A random program on samples of shape INPUT; `made` holds the values of the last run."""

    def __init__(self, seed=0, random=True):
        self.seed = seed
        self.random = random  # whether there are random masks
        self.shared = nn.Linear(INPUT[1])
        self.mask = nn.Dropout(0.3)

    def forward(self, x):
        return _Program(self, x).run()


class _Program:
    """One run of the program: the same draws whatever the values are."""

    def __init__(self, module, x):
        self.module, self.rng = module, np.random.default_rng(module.seed)
        self.values, self.shapes = [x], [INPUT]
        self.parameters = []  # shapes
        self.read = set()
        module.made = self.values

    def run(self):
        names = self.rng.choice([*MOVES], STEPS)
        for name in names:
            MOVES[name](self)
        ends = [v for v in range(len(self.values)) if v not in self.read]
        if self.rng.random() < 0.5:  # some come to nothing
            ends = [self.pick(), len(self.values) - 1]
        last = [self.flat(v) for v in sorted(set(ends))]
        joined = last[0] if len(last) == 1 else ops.concatenate(last, axis=1)
        width = joined.shape[1]
        out = joined @ self.parameter((width, OUTPUTS), 1) + self.parameter((OUTPUTS,), 1)
        self.values.append(out)
        return out

    # ---- what moves are made of ----

    def pick(self, accept=lambda shape: True):
        """The number of a value, rather a late one; the input where none is accepted."""
        found = [v for v, shape in enumerate(self.shapes) if accept(shape)]
        weight = np.arange(1.0, len(found) + 1)
        number = int(self.rng.choice(found, p=weight / weight.sum()))
        self.read.add(number)
        return number

    def keep(self, value, shape):
        self.values.append(value)
        self.shapes.append(shape)

    def parameter(self, shape, start=None):
        """One of this shape, now and then one that has been used."""
        again = [i for i, known in enumerate(self.parameters) if known == shape]
        if again and self.rng.random() < 0.8:
            number = int(self.rng.choice(again))
        else:
            number = len(self.parameters)
            self.parameters.append(shape)
        init = "lecun_normal" if len(shape) > 1 else 0.5 + self.rng.random()
        return self.module.parameter(f"p{number}", shape, init)

    def flat(self, v):
        positions, channels = self.shapes[v]
        return self.values[v].reshape(-1, positions * channels)


def _dense(run):
    v = run.pick()
    positions, channels = run.shapes[v]
    width = int(run.rng.choice([channels, 4, 6]))
    y = run.values[v] @ run.parameter((channels, width))
    run.keep(y + run.parameter((width,)) if run.rng.random() < 0.5 else y, (positions, width))


def _module(run):
    v = run.pick(lambda shape: shape[1] == INPUT[1])
    run.keep(run.module.shared(run.values[v]), run.shapes[v])


def _dropout(run):
    v = run.pick()
    if run.module.random:
        run.keep(run.module.mask(run.values[v]), run.shapes[v])


def _conv(run):
    v = run.pick()
    positions, channels = run.shapes[v]
    kernel = run.parameter((3, channels, channels))
    run.keep(ops.conv(run.values[v], kernel, padding=1), (positions, channels))


def _attention(run):
    q = run.pick()
    k = run.pick(lambda shape: shape[1] == run.shapes[q][1])
    x, y = run.values[q], run.values[k]
    heads = 2 if run.shapes[q][1] % 2 == 0 else 1
    run.keep(ops.attention(x, y, ops.tanh(y), heads=heads), run.shapes[q])


def _norm(run):
    v = run.pick(lambda shape: shape[1] > 2)
    x, width = run.values[v], run.shapes[v][1]
    if run.rng.random() < 0.5:
        y = ops.layer_norm(x, run.parameter((width,)), run.parameter((width,)))
    else:
        y = ops.rms_norm(x, run.parameter((width,)))
    run.keep(y, run.shapes[v])


UNARY = [
    *(ops.tanh, ops.gelu, ops.silu, ops.relu, ops.softplus, ops.logistic, ops.mish),
    lambda x: ops.exp(ops.tanh(x)),
    lambda x: ops.sqrt(x * x + 0.5),
    *2 * [lambda x: ops.softmax(x, axis=-1)],
    lambda x: 1.5 * x - 0.25,
]


def _unary(run):
    v = run.pick()
    run.keep(UNARY[run.rng.integers(len(UNARY))](run.values[v]), run.shapes[v])


BINARY = [ops.add, ops.add, ops.subtract, ops.maximum, lambda a, b: a * ops.tanh(b)]


def _binary(run):
    a = run.pick()
    b = run.pick(lambda shape: shape == run.shapes[a])
    op = BINARY[run.rng.integers(len(BINARY))]
    run.keep(op(run.values[a], run.values[b]), run.shapes[a])


def _residual(run):
    v = run.pick()
    x, (positions, channels) = run.values[v], run.shapes[v]
    inner = ops.relu(x @ run.parameter((channels, channels)))
    run.keep(x + inner, (positions, channels))


REDUCTIONS = [ops.mean, ops.sum, ops.max, ops.logsumexp]


def _reduce(run):
    """A reduction, which then meets its input again."""
    v = run.pick()
    reduction = REDUCTIONS[run.rng.integers(len(REDUCTIONS))]
    axis = int(run.rng.integers(1, 3))
    found = reduction(run.values[v], axis=axis, keepdims=True)
    run.keep(run.values[v] - 0.5 * found, run.shapes[v])


def _concatenate(run):
    a = run.pick(lambda shape: shape[1] <= 6)
    b = run.pick(lambda shape: shape == run.shapes[a])
    axis = int(run.rng.integers(1, 3))
    positions, channels = run.shapes[a]
    both = ops.concatenate([run.values[a], run.values[b]], axis=axis)
    # Of each a part, the latter's backwards.
    if axis == 1:
        run.keep(both[:, 1 : positions + 2][:, ::-1], (positions + 1, channels))
    else:
        run.keep(both[:, :, channels - 2 : channels + 2], (positions, 4))


def _turn(run):
    v = run.pick(lambda shape: 3 <= shape[0] <= 6)
    positions, channels = run.shapes[v]
    run.keep(run.values[v].transpose(0, 2, 1), (channels, positions))


MOVES = {
    "dense": _dense,
    "module": _module,
    "dropout": _dropout,
    "conv": _conv,
    "attention": _attention,
    "norm": _norm,
    "unary": _unary,
    "binary": _binary,
    "residual": _residual,
    "reduce": _reduce,
    "concatenate": _concatenate,
    "turn": _turn,
}
