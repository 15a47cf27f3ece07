"""Layers with all their options: values, gradients, the same bits at once and planned, errors."""

import copy
import pickle
import re

import numpy as np
import pytest
from layer_cases import LAYERS
from sklearn.base import clone

import fastbp
from fastbp import nn, no_grad
from fastbp.gradcheck import compare

N_SAMPLES = 7
TOKENS = nn.Input((2,), "index")
by_case = pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)


class Within(nn.Module):
    """A layer between others: a scale on its real inputs, whose gradients reach through it."""

    def __init__(self, layer):
        self.layer = layer
        self.flatten = nn.Flatten()

    def forward(self, x, **named):
        if x.dtype.kind == "f":
            x = x * self.parameter("scale", (x.shape[-1],), 1.0)
        return self.flatten(self.layer(x, **named))


def built(case, dtype=np.float64):
    """The layer within a network, with parameters that are nowhere zeros or ones."""
    network = Within(case.make()).build(
        case.inputs if len(case.inputs) > 1 else case.inputs["x"], seed=3, dtype=dtype
    )
    flat = network._home.flat
    flat += (0.2 * np.random.default_rng(5).standard_normal(flat.size)).astype(dtype)
    return network


def planned(case, network):
    """Its plan, inputs as the plan takes them, and targets of squared errors."""
    X = case.arrays(N_SAMPLES, network._home.flat.dtype)
    plan = fastbp.compile(network, "squared_error")
    given = X if len(X) > 1 else X["x"]
    y = np.random.default_rng(1).standard_normal((N_SAMPLES, *plan.core.output_shapes[0]))
    return plan.core, plan.samples(given), plan.targets(y)


@by_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_at_once_and_planned(case, dtype):
    network = built(case, dtype)
    core, X, y = planned(case, network)
    named, flat = case.arrays(N_SAMPLES, dtype), network._home.flat
    with no_grad():
        np.testing.assert_array_equal(network(**named).data, core.predict(flat, X, raw=True))
    nn.SquaredError()(network(**named), y).backward()
    found = [
        np.zeros(one.size, dtype) if one.grad is None else one.grad.ravel()
        for one in network._home.parameters.values()
    ]
    grad = np.full_like(flat, np.nan)
    core.loss_gradient(flat, X, y, grad=grad, draws=(3, 0))
    np.testing.assert_array_equal(np.concatenate(found), grad)


@by_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values(case, dtype):
    network = built(case, dtype)
    named = case.arrays(N_SAMPLES, dtype)
    values = {
        name.removeprefix("layer."): one.data.astype(np.float64)
        for name, one in network.parameters().items()
    }
    inputs = {
        name: one if one.dtype.kind == "i" else one.astype(np.float64)
        for name, one in named.items()
    }
    if "scale" in values:
        inputs["x"] = inputs["x"] * values.pop("scale")
    x = inputs.pop("x")
    expected = case.witness(values, x, **inputs).reshape(N_SAMPLES, -1)
    with no_grad():
        found = network(**named).data
    # At most 10 sums follow each other, of 40 terms of a size of 10 or less: 4000 roundings of
    # what is as large as the largest result. Mistakes are of the size of a result.
    bound = 4000 * np.finfo(dtype).eps * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@by_case
def test_gradients(case):
    network = built(case)
    core, X, y = planned(case, network)
    flat = network._home.flat
    if flat.size == 0:
        return
    grad = np.empty_like(flat)
    core.loss_gradient(flat, X, y, grad=grad, draws=(3, 0))
    found = compare(
        lambda params: core.loss_gradient(params, X, y, draws=(3, 0)), flat, grad, tolerance=1e-6
    )
    assert found.settled.all()
    assert not found.contradicts(1e-6)


@by_case
def test_gradients_over_many_samples(case):
    """Of 1024 and 6 more the engine forms them in two passes, the second added to the first."""
    network = built(case)
    flat = network._home.flat
    plan = fastbp.compile(network, "squared_error")
    named = case.arrays(1030)
    y = np.random.default_rng(1).standard_normal((1030, *plan.core.output_shapes[0]))
    nn.SquaredError()(network(**named), y).backward()
    grad, given = np.empty_like(flat), named if len(named) > 1 else named["x"]
    plan.core.loss_gradient(flat, plan.samples(given), plan.targets(y), grad=grad, draws=(3, 0))
    found = [
        np.zeros(one.size) if one.grad is None else one.grad.ravel()
        for one in network._home.parameters.values()
    ]
    if flat.size == 0:
        return
    found = np.concatenate(found)
    # Sums of 1030 samples with at most 30 positions each, in another order: 31,000 roundings.
    bound = 31_000 * np.finfo(float).eps * max(1.0, np.abs(found).max())
    np.testing.assert_allclose(grad, found, rtol=0, atol=bound)


# ------------------------------------------------------------------------- what all have in common


def test_every_layer_has_a_case():
    met = {type(part).__name__ for case in LAYERS for part in case.make().modules().values()}
    met |= {"AlphaDropout", "Lambda", "Residual", "Module", "Activation"}  # of test_modules
    layers = {
        name
        for name in nn.__all__
        if isinstance(one := getattr(nn, name), type) and issubclass(one, nn.Module)
    }
    assert layers - met - set(nn.made.ACTIVATIONS) == set()


@by_case
def test_descriptions(case):
    layer = case.make()
    again = clone(layer)
    assert repr(again) == repr(layer)
    assert again.set_params(**layer.get_params(deep=False)).get_params(deep=False).keys() == (
        layer.get_params(deep=False).keys()
    )
    X = case.arrays(3)
    network = built(case)
    loaded = pickle.loads(pickle.dumps(network))
    with no_grad():
        np.testing.assert_array_equal(loaded(**X).data, network(**X).data)


# ------------------------------------------------------------------- what single layers promise


def test_starts():
    """What the docstrings say that parameters start from."""
    lstm = nn.LSTM(3, forget_bias=2.0).build((4, 2))
    np.testing.assert_array_equal(lstm.bias_l0.data, np.repeat([0.0, 2.0, 0.0, 0.0], 3))
    assert (nn.LSTM(3).build((4, 2)).bias_l0.data[3:6] == 1.0).all()
    for gate in np.split(lstm.weight_hh_l0.data, 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(3), atol=8 * np.finfo(np.float32).eps)
    norm = nn.LayerNorm().build(5)
    assert (norm.weight.data == 1).all() and (norm.parameters()["bias"].data == 0).all()
    # He's bound sqrt(6 / fan_in), of 3 x 3 windows of 8 channels in 2 groups; Glorot's of 16 + 16.
    conv = nn.Conv2d(64, 3, groups=2).build((9, 9, 8)).weight.data
    bound = np.sqrt(6 / (9 * 4))
    assert 0.99 * bound < np.abs(conv).max() <= bound
    attention = nn.MultiheadAttention(4).build((3, 16)).in_proj_weight.data
    bound = np.sqrt(6 / 32)
    assert 0.98 * bound < np.abs(attention).max() <= bound
    # Of 40,000 normal numbers, four standard deviations of their standard deviation.
    table = nn.Embedding(100, 400).build(np.zeros((1, 2), int)).weight.data
    assert abs(table.std() - 1) < 4 / np.sqrt(2 * table.size)
    vectors = np.arange(6.0).reshape(3, 2)
    loaded = nn.Embedding(3, 2, init=vectors).build(np.zeros((1, 2), int))
    np.testing.assert_array_equal(loaded.weight.data, vectors)


WITH_WEIGHTS = {
    "Linear": (lambda init: nn.Linear(3, init=init), (4,)),
    "Conv1d": (lambda init: nn.Conv1d(3, 2, init=init), (4, 2)),
    "Conv2d": (lambda init: nn.Conv2d(3, 2, init=init), (4, 4, 2)),
    "Embedding": (lambda init: nn.Embedding(3, 2, init=init), TOKENS),
    "LearntEncoding": (lambda init: nn.LearntEncoding(init=init), (4, 2)),
    "MultiheadAttention": (lambda init: nn.MultiheadAttention(2, init=init), (4, 2)),
    "TransformerBlock": (lambda init: nn.TransformerBlock(2, init=init), (4, 2)),
    "RNN": (lambda init: nn.RNN(3, init=init, recurrent_init=init), (4, 2)),
    "LSTM": (lambda init: nn.LSTM(3, init=init, recurrent_init=init, forget_bias=0.0), (4, 2)),
    "GRU": (lambda init: nn.GRU(3, init=init, recurrent_init=init), (4, 2)),
}


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_weights_start_from_what_is_told_and_biases_from_zeros(name):
    make, inputs = WITH_WEIGHTS[name]
    for init, value in ((nn.init.Constant(0.25), 0.25), (0.5, 0.5), ("ones", 1.0)):
        for path, one in make(init).build(inputs).parameters().items():
            if "norm" in path:
                continue
            assert (one.data == (0.0 if "bias" in path else value)).all(), path


def test_padding_has_no_gradient():
    tokens = np.array([[0, 2, 1, -1], [2, 2, 0, 1]])
    layer = nn.Embedding(3, 2, padding_idx=2).build(tokens, dtype=np.float64)
    y = layer(tokens)
    assert (y.data[tokens % 3 == 2] == 0).all() and (y.data[tokens % 3 != 2] != 0).all()
    y.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad, [[2, 2], [2, 2], [0, 0]])


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_the_last_state_is_that_of_the_last_step_that_counts(layer):
    x = np.random.default_rng(0).standard_normal((2, 6, 3))
    made = layer(4, num_layers=2, bidirectional=True, output="last")
    made.build({"x": (6, 3), "mask": (6,)}, dtype=np.float64)
    mask = np.array([[1.0] * 6, [1.0] * 4 + [0.0] * 2])
    short = copy.deepcopy(made).build({"x": (4, 3)}, dtype=np.float64)
    with no_grad():
        padded = made(x=x, mask=mask).data
        np.testing.assert_array_equal(padded[1:], short(x=x[1:, :4].copy()).data)
        assert not np.array_equal(padded, made(x=x, mask=np.ones((2, 6))).data)


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_dropout_is_between_layers_and_in_training(layer):
    x = np.ones((3, 4, 2))
    made = layer(50, num_layers=2, dropout=0.5).build((4, 2), dtype=np.float64)
    assert not np.array_equal(made(x).data, made(x).data)
    with no_grad():
        np.testing.assert_array_equal(made(x).data, made(x).data)
    single = layer(5, dropout=0.5).build((4, 2), dtype=np.float64)
    np.testing.assert_array_equal(single(x).data, single(x).data)


def test_a_causal_block_does_not_look_ahead():
    x = np.random.default_rng(0).standard_normal((1, 5, 4))
    later = x.copy()
    later[:, 3:] += 1.0
    for causal in (True, False):
        block = nn.TransformerBlock(2, causal=causal).build((5, 4), dtype=np.float64)
        with no_grad():
            same = np.array_equal(block(x).data[:, :3], block(later).data[:, :3])
        assert same == causal


@pytest.mark.parametrize("training", [True, False])
def test_checkpointing_changes_no_bit(training):
    def layers():
        return [nn.Linear(6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(3)]

    plain = nn.Sequential(nn.Sequential(*layers()), nn.Linear(2)).build(5, seed=1)
    saving = nn.Sequential(nn.Checkpoint(nn.Sequential(*layers())), nn.Linear(2)).build(5, seed=1)
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    found = []
    for network in (plain, saving):
        # Backward runs outside of the mode that forward ran in.
        with nn.training(training):
            y = network(x)
        y.sum().backward()
        found.append([y.data, *(one.grad for one in network.parameters().values())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------------------ errors

ERRORS = [
    ("Conv1d: found an input of shape (n, 7), wanted (n, l", lambda: nn.Conv1d(4, 3), (7,)),
    ("Conv2d: found an input of shape (n, 7, 2), wanted", lambda: nn.Conv2d(4, 3), (7, 2)),
    ("reaches over 9, wanted at most the 7 that axis 1", lambda: nn.Conv1d(4, 9), (7, 2)),
    (
        "Conv2d: kernel_size: found (3, 3, 3), wanted an int or 2 of them",
        lambda: nn.Conv2d(4, (3, 3, 3)),
        (7, 7, 2),
    ),
    ("Conv1d: kernel_size: found 3.0, wanted an int", lambda: nn.Conv1d(4, 3.0), (7, 2)),
    ("stride of conv: found 0, wanted", lambda: nn.Conv1d(4, 3, stride=0), (7, 2)),
    ("padding of conv: found -1, wanted", lambda: nn.Conv1d(4, 3, padding=-1), (7, 2)),
    ("dilation of conv: found 0, wanted", lambda: nn.Conv1d(4, 3, dilation=0), (7, 2)),
    ("Conv1d: out_channels: found 0, wanted an int of", lambda: nn.Conv1d(0, 3), (7, 2)),
    (
        "Conv1d: groups: found 3, wanted a divisor of the 2 channels of the input",
        lambda: nn.Conv1d(6, 3, groups=3),
        (7, 2),
    ),
    ("Conv1d: padding: found 'full', wanted", lambda: nn.Conv1d(4, 3, padding="full"), (7, 2)),
    (
        "Conv1d: padding: found 'same' with kernel_size 2",
        lambda: nn.Conv1d(4, 2, padding="same"),
        (7, 2),
    ),
    (
        "stride 2, wanted stride 1",
        lambda: nn.Conv1d(4, 3, stride=2, padding="same"),
        (7, 2),
    ),
    ("MaxPool1d: found an input of shape (n, 7), wanted", lambda: nn.MaxPool1d(2), (7,)),
    ("MaxPool2d: found an input of shape (n, 7, 2), wanted", lambda: nn.MaxPool2d(2), (7, 2)),
    ("AvgPool1d: found an input of shape (n, 7), wanted", lambda: nn.AvgPool1d(2), (7,)),
    ("AvgPool2d: found an input of shape (n, 7, 2), wanted", lambda: nn.AvgPool2d(2), (7, 2)),
    ("MaxPool1d: kernel_size: found (2, 2), wanted", lambda: nn.MaxPool1d((2, 2)), (7, 2)),
    ("kernel of max_pool: found 0, wanted", lambda: nn.MaxPool1d(0), (7, 2)),
    ("at most half of the kernel", lambda: nn.AvgPool1d(2, padding=2), (7, 2)),
    ("GlobalAvgPool: found an input of shape (n, 7), wanted", nn.GlobalAvgPool, (7,)),
    ("GlobalMaxPool: found an input of shape (n, 7), wanted", nn.GlobalMaxPool, (7,)),
    ("LayerNorm: found an input of shape (n,), wanted at least", nn.LayerNorm, ()),
    ("epsilon of layer_norm: found 0, wanted", lambda: nn.LayerNorm(eps=0), (3,)),
    ("epsilon of rms_norm: found 'a', wanted a number", lambda: nn.RMSNorm(eps="a"), (3,)),
    ("GroupNorm: num_groups: found 4, wanted a divisor", lambda: nn.GroupNorm(4), (3, 6)),
    ("GroupNorm: num_groups: found 0, wanted an int", lambda: nn.GroupNorm(0), (3, 6)),
    ("indices of embedding: found reals, wanted int", lambda: nn.Embedding(3, 4), (2,)),
    ("Embedding: num_embeddings: found 0, wanted", lambda: nn.Embedding(0, 4), TOKENS),
    (
        "Embedding: padding_idx: found 3, wanted one from 0 to 2",
        lambda: nn.Embedding(3, 4, padding_idx=3),
        TOKENS,
    ),
    ("SinusoidalEncoding: found an input of shape", nn.SinusoidalEncoding, (3,)),
    ("base: found 1, wanted more than 1", lambda: nn.SinusoidalEncoding(base=1), (3, 2)),
    ("LearntEncoding: found an input of shape", nn.LearntEncoding, (3,)),
    ("num_heads: found 4, wanted a divisor", lambda: nn.MultiheadAttention(4), (3, 6)),
    ("num_heads: found 0, wanted an int of", lambda: nn.MultiheadAttention(0), (3, 6)),
    ("wanted query of shape (n, length, w", lambda: nn.MultiheadAttention(2), (6,)),
    (
        "wanted key of shape (n, keys, features)",
        lambda: nn.MultiheadAttention(2),
        {"query": (3, 4), "key": (4,)},
    ),
    (
        "found a value without a key, wanted both",
        lambda: nn.MultiheadAttention(2),
        {"query": (3, 4), "value": (3, 4)},
    ),
    (
        "found a mask of reals of shape (n, 4), wanted",
        lambda: nn.MultiheadAttention(2),
        {"query": (3, 4), "mask": (4,)},
    ),
    (
        "activation: found 'gul', wanted a Module",
        lambda: nn.TransformerBlock(2, activation="gul"),
        4,
    ),
    ("TransformerBlock: found an input of shape", lambda: nn.TransformerBlock(2), (4,)),
    ("dim_feedforward: found 0, wanted", lambda: nn.TransformerBlock(2, 0), (3, 4)),
    (
        "p of dropout: found 1.5, wanted",
        lambda: nn.TransformerBlock(2, dropout=1.5),
        (3, 4),
    ),
    ("RNN: nonlinearity: found 'sig', wanted", lambda: nn.RNN(3, nonlinearity="sig"), (3, 4)),
    ("RNN: found an input of shape (n, 4), wanted", lambda: nn.RNN(3), (4,)),
    ("GRU: output: found 'first', wanted", lambda: nn.GRU(3, output="first"), (3, 4)),
    ("LSTM: num_layers: found 0, wanted", lambda: nn.LSTM(3, num_layers=0), (3, 4)),
    ("LSTM: hidden_size: found 0, wanted", lambda: nn.LSTM(0), (3, 4)),
    ("found mask of reals of shape (n, 4)", lambda: nn.GRU(3), {"x": (3, 4), "mask": (4,)}),
    ("init: found 'orth', wanted a number", lambda: nn.GRU(3, recurrent_init="orth"), (3, 4)),
    ("x of linear: found integers", lambda: nn.LSTM(3), nn.Input((3, 4), "index")),
]


@pytest.mark.parametrize(("message", "make", "inputs"), ERRORS, ids=lambda part: str(part)[:40])
def test_errors(message, make, inputs):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        make().build(inputs)
