"""Recurrent layers: sequences of different lengths, both directions, errors, PyTorch's cells."""

import numpy as np
import pytest
from helpers import bits, over_dtypes

from fastbp import _core

BLOCKS = {"rnn": 1, "lstm": 4, "gru": 3}
over_cells = pytest.mark.parametrize("name", BLOCKS)
over_directions = pytest.mark.parametrize("reverse", [0, 1], ids=["onwards", "reversed"])


def inputs(name, n=5, steps=7, units=6, dtype=np.float64, seed=0):
    """p, w and, of a gru, bn."""
    rng = np.random.default_rng(seed)
    wide = BLOCKS[name] * units
    given = [rng.standard_normal((n, steps, wide)), rng.standard_normal((units, wide)) * 0.4]
    if name == "gru":
        given.append(rng.standard_normal(units))
    return [array.astype(dtype) for array in given]


def run(name, x, dy=None, **attrs):
    """The states and, along dy, the gradients of p, w and bn."""
    x, dy = [np.ascontiguousarray(a) for a in x], dy if dy is None else np.ascontiguousarray(dy)
    node = _core.Node(name, [a.shape for a in x], dtype=x[0].dtype, attrs=attrs)
    y = node.forward(x)
    return y[0], [] if dy is None else node.backward(x, y, [dy], node.differentiable)


@over_dtypes
@over_directions
@over_cells
def test_a_masked_end_is_as_if_it_were_not_there(name, reverse, dtype):
    """Sequences of 1 to 5 steps in room for 7, in which anything may stand after their end."""
    x = inputs(name, dtype=dtype)
    lengths = np.arange(1, 6)
    mask = (np.arange(7) < lengths[:, None]).astype(dtype)
    x[0][mask == 0] = np.nan
    dy = np.random.default_rng(1).standard_normal((5, 7, 6)).astype(dtype)
    dy[mask == 0] = 0
    h, (dp, *_) = run(name, [*x, mask], dy, reverse=reverse)
    for i, length in enumerate(lengths):
        alone = [x[0][i : i + 1, :length], *x[1:]]
        slope = dy[i : i + 1, :length]
        expected, (dp_alone, *_) = run(name, alone, slope, reverse=reverse)
        np.testing.assert_array_equal(bits(h[i, :length]), bits(expected[0]))
        np.testing.assert_array_equal(dp[i, :length], dp_alone[0])
        # The state stays what it was: that of the last step, or 0 where the scan comes from there.
        last = np.zeros(6) if reverse else h[i, length - 1]
        np.testing.assert_array_equal(h[i, length:], np.broadcast_to(last, (7 - length, 6)))
        np.testing.assert_array_equal(dp[i, length:], 0)


@over_cells
def test_a_masked_step_in_the_middle_is_skipped(name):
    x = inputs(name)
    mask = np.ones((5, 7))
    mask[:, [0, 3]] = 0
    dy = np.random.default_rng(1).standard_normal((5, 7, 6))
    h, slopes = run(name, [*x, mask], dy)
    taken = np.flatnonzero(mask[0])
    without = dy[:, taken]
    without[:, 1] += dy[:, 3]  # step 3 repeats step 2, the second that is taken
    expected, others = run(name, [x[0][:, taken], *x[1:]], without)
    np.testing.assert_array_equal(h[:, taken], expected)
    np.testing.assert_array_equal(h[:, 0], 0)
    np.testing.assert_array_equal(h[:, 3], h[:, 2])
    np.testing.assert_allclose(slopes[0][:, taken], others[0], rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(slopes[1:], others[1:], strict=False):
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@over_cells
def test_reversed_is_the_sequence_from_its_end(name):
    x = inputs(name)
    h, _ = run(name, x, reverse=1)
    flipped, _ = run(name, [x[0][:, ::-1], *x[1:]])
    np.testing.assert_array_equal(bits(h), bits(np.ascontiguousarray(flipped[:, ::-1])))


@over_cells
def test_a_mask_of_ones_or_an_empty_one_changes_nothing(name):
    x = inputs(name)
    h, _ = run(name, x)
    for mask in (np.ones((5, 7)), np.empty((5, 0))):
        np.testing.assert_array_equal(bits(h), bits(run(name, [*x, mask])[0]))


def test_the_gru_without_a_bias_is_that_with_one_of_zeros():
    p, w, _ = inputs("gru")
    h, _ = run("gru", [p, w, np.zeros(6)])
    for x in ([p, w], [p, w, np.empty(0)], [p, w, np.empty(0), np.ones((5, 7))]):
        found, slopes = run("gru", x, np.ones_like(h))
        np.testing.assert_array_equal(bits(found), bits(h))
        assert all(slope is None for slope in slopes[2:])


@over_cells
def test_the_gradient_of_the_weights_needs_that_of_p_but_not_its_reader(name):
    """Asked for alone, the gradients of w and bn are what they are beside that of p."""
    x = inputs(name)
    node = _core.Node(name, [a.shape for a in x], dtype="float64")
    y = node.forward(x)
    dy = [np.random.default_rng(1).standard_normal(y[0].shape)]
    tx = [np.random.default_rng(2).standard_normal(a.shape) for a in x]
    ty = node.tangent(x, y, tx)
    everything = [True] * len(x)
    whole = node.backward(x, y, dy, everything)
    whole_tangent = node.backward_tangent(x, y, tx, ty, dy, dy, everything)
    for i in range(1, len(x)):
        wanted = [j == i for j in range(len(x))]
        np.testing.assert_array_equal(node.backward(x, y, dy, wanted)[i], whole[i])
        found = node.backward_tangent(x, y, tx, ty, dy, dy, wanted)
        np.testing.assert_array_equal(found[i], whole_tangent[i])


@over_cells
def test_large_pre_activations_saturate(name):
    """Nothing overflows on the way, and no gradient is NaN."""
    x = inputs(name)
    x[0] *= 1e30
    h, slopes = run(name, x, np.ones((5, 7, 6)))
    for array in (h, *slopes):
        assert np.isfinite(array).all()


def test_errors_name_op_argument_and_shapes():
    for name, shapes, message in [
        ("rnn", [(2, 5, 4), (3, 4)], r"rnn: found p of shape \(n, 5, 4\) and w of shape \(3, 4\)"),
        ("rnn", [(2, 4), (4, 4)], r"wanted reals of shapes \(steps, 1 h\) for each sample"),
        ("lstm", [(2, 5, 12), (3, 9)], r"and w of shape \(3, 9\), .* \(steps, 4 h\) .* \(h, 4 h\)"),
        ("lstm", [(2, 5, 8), (3, 12)], r"lstm: found p of shape \(n, 5, 8\)"),
        ("lstm", [(2, 5, 0), (0, 0)], r"lstm: found p of shape \(n, 5, 0\)"),
        ("gru", [(2, 5, 9), (9,)], r"gru: found p .* w of shape \(9,\)"),
        (
            "gru",
            [(2, 5, 9), (3, 9), (4,)],
            r"found bn of reals of shape \(4,\), wanted reals of shape \(3,\) as w is \(3, 9\)",
        ),
        (
            "lstm",
            [(2, 5, 12), (3, 12), (2, 4)],
            r"mask of reals of shape \(n, 4\), wanted reals of shape \(n, 5\) as p is \(n, 5, 12\)",
        ),
        ("lstm", [(2, 5, 12), (3, 12), (3, 5)], r"lstm: found \[2, 3\] samples"),
        ("gru", [(2, 5, 9)], "gru: found 1 inputs, wanted 2 to 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.Node(name, shapes, dtype="float64")
    with pytest.raises(ValueError, match="mask of rnn: found integers, wanted reals"):
        _core.Node("rnn", [(2, 5, 3), (3, 3), (2, 5)], dtype="float64", indices=(2,))
    with pytest.raises(ValueError, match=r"p of shape \(5, 3\) and w .* for each sample"):
        _core.Node("rnn", [(5, 3), (3, 3), (None, 5)], dtype="float64")
    with pytest.raises(ValueError, match="reverse of lstm: found 2, wanted an integer in"):
        _core.Node("lstm", [(2, 5, 4), (1, 4)], dtype="float64", attrs={"reverse": 2})


# ----------------------------------------------------------------------------------------- PyTorch


def layer_of(torch, name, x, w_x, b):
    """PyTorch's layer with weights as ours lie: w_x (inputs, blocks h), w (h, blocks h)."""
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name]
    layer = kind(w_x.shape[0], x[1].shape[0], batch_first=True, dtype=torch.float64)
    recurrent = np.zeros_like(b)
    if name == "gru":
        recurrent[-len(x[2]) :] = x[2]
    with torch.no_grad():
        for ours, theirs in [
            (w_x.T, layer.weight_ih_l0),
            (x[1].T, layer.weight_hh_l0),
            (b, layer.bias_ih_l0),
            (recurrent, layer.bias_hh_l0),
        ]:
            theirs.copy_(torch.from_numpy(np.ascontiguousarray(ours)))
    return layer


@over_cells
def test_values_and_gradients_against_torch(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    _, *x = inputs(name)
    wide = x[0].shape[1]
    given, w_x, b = (
        rng.standard_normal((5, 7, 4)),
        rng.standard_normal((4, wide)),
        rng.standard_normal(wide),
    )
    x = [given @ w_x + b, *x]
    layer = layer_of(torch, name, x, w_x, b)
    theirs = torch.from_numpy(given).requires_grad_()
    h = layer(theirs)[0]
    dy = rng.standard_normal((5, 7, 6))
    h.backward(torch.from_numpy(dy))
    found, (dp, dw, *dbn) = run(name, x, dy)
    # 7 steps of sums over 6 states: some tens of roundings of values near 1.
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(found, h.detach().numpy(), **close)
    np.testing.assert_allclose(dp @ w_x.T, theirs.grad.numpy(), **close)
    np.testing.assert_allclose(dw.T, layer.weight_hh_l0.grad.numpy(), **close)
    np.testing.assert_allclose(dp.sum(axis=(0, 1)), layer.bias_ih_l0.grad.numpy(), **close)
    if dbn:
        np.testing.assert_allclose(dbn[0], layer.bias_hh_l0.grad.numpy()[-6:], **close)


@over_cells
def test_lengths_against_torch_packed_sequences(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    _, *x = inputs(name)
    wide = x[0].shape[1]
    given, w_x, b = rng.standard_normal((5, 7, 4)), rng.standard_normal((4, wide)), np.zeros(wide)
    x = [given @ w_x, *x]
    lengths = [2, 7, 1, 4, 5]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(given), lengths, batch_first=True, enforce_sorted=False
    )
    layer = layer_of(torch, name, x, w_x, b)
    h, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)
    mask = (np.arange(7) < np.array(lengths)[:, None]).astype(np.float64)
    found, _ = run(name, [*x, mask])
    for i, length in enumerate(lengths):
        np.testing.assert_allclose(
            found[i, :length], h.detach().numpy()[i, :length], rtol=1e-12, atol=1e-12
        )
