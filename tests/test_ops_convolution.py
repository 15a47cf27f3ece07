"""What convolutions are besides what holds of every op: the same sums in other formulations (R21),
and what is refused."""

import numpy as np
import pytest
from helpers import bits, over, over_dtypes
from reference_ops.convolution import each, windows
from scipy.signal import correlate

from fastbp import _core
from fastbp.testing import op_cases

CONVOLUTIONS = [case for case in op_cases() if case.name == "conv"]
EPS = np.finfo(np.float64).eps


def conv(arrays, **attrs):
    """The convolution of arrays of one dtype."""
    node = _core.Node("conv", [a.shape for a in arrays], dtype=arrays[0].dtype, attrs=attrs)
    return node.forward(arrays)[0]


def gradients(arrays, dy, **attrs):
    node = _core.Node("conv", [a.shape for a in arrays], dtype=arrays[0].dtype, attrs=attrs)
    return node.backward(arrays, node.forward(arrays), [dy], [True] * len(arrays))


def drawn(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def close(ours, theirs, terms):
    """Sums of so many products of standard normals, whatever their order: an error of eps for each
    addition, of partial sums that stay below 8 sqrt(terms)."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=8 * EPS * terms**1.5)


def flipped(w):
    """The kernel turned about, its inputs and outputs exchanged."""
    axes = tuple(range(w.ndim - 2))
    return np.ascontiguousarray(np.swapaxes(np.flip(w, axes), -1, -2))


def stuffed(dy, stride):
    """dy with stride - 1 zeros between neighbours."""
    n = dy.ndim - 2
    steps = each(stride, n)
    lengths = [(m - 1) * s + 1 for m, s in zip(dy.shape[1:-1], steps, strict=True)]
    wide = np.zeros((dy.shape[0], *lengths, dy.shape[-1]))
    wide[(slice(None), *(slice(None, None, s) for s in steps))] = dy
    return wide


@pytest.mark.parametrize("shape", [(5, 7), (8, 3), (1, 9)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2), (1, 3)])
def test_a_single_channel_is_scipy_correlate(shape, kernel):
    if shape[0] < kernel[0]:
        return
    x, w = drawn(0, shape, kernel)
    for mode, padding in [("valid", 0), ("full", [k - 1 for k in kernel])]:
        ours = conv([x[None, :, :, None], w[:, :, None, None]], padding=padding)
        theirs = correlate(x, w, mode=mode, method="direct")
        close(ours[0, :, :, 0], theirs, w.size)
    line = conv([x[:, :, None], w[:1, :].reshape(-1, 1, 1)], padding=kernel[1] - 1)
    for i, row in enumerate(x):
        close(line[i, :, 0], correlate(row, w[0], mode="full", method="direct"), w.size)


@over(CONVOLUTIONS)
def test_forward_is_a_product_with_the_matrix_of_patches(case):
    x, w = case.arrays()[:2]
    b = case.arrays()[2] if len(case.inputs) == 3 else 0.0
    attrs = {name: value for name, value in case.attrs.items() if name != "groups"}
    groups, n = int(case.attrs.get("groups", 1)), w.ndim - 2
    patches = windows(
        x,
        w.shape[:n],
        attrs.get("stride", 1),
        attrs.get("padding", 0),
        attrs.get("dilation", 1),
    )
    patches = np.moveaxis(patches, n + 1, -1)  # (samples, positions..., kernel..., channels)
    parts = []
    for g in range(groups):
        channels, outputs = w.shape[-2], w.shape[-1] // groups
        of_group = patches[..., g * channels : (g + 1) * channels]
        matrix = of_group.reshape(*patches.shape[: n + 1], -1)
        weights = w[..., g * outputs : (g + 1) * outputs].reshape(-1, outputs)
        parts.append(matrix @ weights)
    theirs = np.concatenate(parts, axis=-1) + b
    close(conv(case.arrays(), **case.attrs), theirs, w.size // w.shape[-1] + 1)


@pytest.mark.parametrize(
    ("x", "kernel", "outputs", "attrs"),
    [
        ((2, 6, 7, 3), (3, 2), 4, {}),
        ((2, 6, 7, 3), (3, 3), 4, {"padding": 1}),
        ((2, 6, 7, 3), (3, 3), 4, {"padding": [2, 0], "dilation": [1, 2]}),
        ((2, 9, 8, 3), (3, 2), 4, {"padding": 1, "stride": [2, 3]}),
        ((2, 9, 8, 2), (3, 3), 4, {"padding": 1, "stride": 2, "dilation": [2, 3]}),
        ((3, 11, 2), (4,), 3, {"padding": 2, "stride": 2}),
    ],
)
def test_the_input_gradient_is_a_convolution_with_the_kernel_flipped(x, kernel, outputs, attrs):
    """R21: full correlation of dy, with zeros between its elements, cut to where x was."""
    n = len(kernel)
    x, w = drawn(1, x, (*kernel, x[-1], outputs))
    y = conv([x, w], **attrs)
    (dy,) = drawn(2, y.shape)
    dx, _ = gradients([x, w], dy, **attrs)
    padding, dilation = each(attrs.get("padding", 0), n), each(attrs.get("dilation", 1), n)
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    wide = conv([stuffed(dy, attrs.get("stride", 1)), flipped(w)], padding=reach, dilation=dilation)
    # What the windows reach of the padded x; zeros where none does.
    around = [m + 2 * p for m, p in zip(x.shape[1:-1], padding, strict=True)]
    whole = np.zeros((len(x), *around, x.shape[-1]))
    whole[tuple(slice(m) for m in wide.shape)] = wide
    cut = tuple(slice(p, p + m) for m, p in zip(x.shape[1:-1], padding, strict=True))
    close(dx, whole[(slice(None), *cut)], w.size // w.shape[-2])


def test_the_weight_gradient_is_a_convolution_with_the_gradient():
    """R21: channels as samples, and the result's gradient, dilated by the stride, as the kernel."""
    x, w = drawn(3, (4, 7, 6, 3), (3, 2, 3, 5))
    attrs = {"stride": 2, "padding": 1}
    (dy,) = drawn(4, conv([x, w], **attrs).shape)
    _, dw = gradients([x, w], dy, **attrs)
    as_samples = np.ascontiguousarray(x.transpose(3, 1, 2, 0))
    kernel = np.ascontiguousarray(dy.transpose(1, 2, 0, 3))
    theirs = conv([as_samples, kernel], padding=1, dilation=2)
    close(dw, theirs.transpose(1, 2, 0, 3)[:3, :2], dy.size // 5)


@over_dtypes
def test_a_line_has_the_bits_of_an_image_of_one_line(dtype):
    x, w, b = (a.astype(dtype) for a in drawn(5, (3, 11, 4), (3, 4, 6), (6,)))
    line, image = [x, w, b], [x[:, None], w[None], b]
    attrs = {"stride": 2, "padding": 1}
    flat = {"stride": [1, 2], "padding": [0, 1]}
    y, same = conv(line, **attrs), conv(image, **flat)
    np.testing.assert_array_equal(bits(y), bits(same[:, 0].copy()))
    slopes, others = gradients(line, y, **attrs), gradients(image, same, **flat)
    for ours, theirs in zip(slopes, others, strict=True):
        np.testing.assert_array_equal(bits(ours), bits(theirs.reshape(ours.shape)))


@over_dtypes
def test_groups_have_the_bits_of_convolutions_of_their_channels(dtype):
    x, w, b = (a.astype(dtype) for a in drawn(6, (3, 6, 5, 4), (3, 2, 2, 10), (10,)))
    y = conv([x, w, b], groups=2, padding=1)
    dx, dw, db = gradients([x, w, b], y, groups=2, padding=1)
    for g in range(2):
        inputs, outputs = np.s_[..., 2 * g : 2 * g + 2], np.s_[..., 5 * g : 5 * g + 5]
        alone = [a.copy() for a in (x[inputs], w[outputs], b[outputs])]
        part = conv(alone, padding=1)
        np.testing.assert_array_equal(bits(y[outputs].copy()), bits(part))
        slopes = gradients(alone, part, padding=1)
        for ours, theirs in zip((dx[inputs], dw[outputs], db[outputs]), slopes, strict=True):
            np.testing.assert_array_equal(bits(ours.copy()), bits(theirs))


@over_dtypes
def test_a_kernel_of_one_element_has_the_bits_of_linear(dtype):
    x, w, b = (a.astype(dtype) for a in drawn(7, (3, 4, 5, 21), (21, 35), (35,)))
    linear = _core.Node("linear", [x.shape, w.shape, b.shape], dtype=dtype)
    (y,) = linear.forward([x, w, b])
    np.testing.assert_array_equal(bits(conv([x, w[None, None], b])), bits(y))
    slopes = linear.backward([x, w, b], [y], [y], [True] * 3)
    ours = gradients([x, w[None, None], b], y)
    np.testing.assert_array_equal(bits(ours[0]), bits(slopes[0]))
    np.testing.assert_array_equal(bits(ours[1][0, 0]), bits(slopes[1]))


def test_positions_that_no_window_holds_have_no_gradient():
    x, w = drawn(8, (2, 8, 8, 1), (1, 1, 1, 1))
    dx, _ = gradients([x, w], np.ones((2, 3, 3, 1)), stride=3)
    held = np.zeros((8, 8), bool)
    held[::3, ::3] = True
    np.testing.assert_array_equal(dx[:, held], np.full((2, 9, 1), w.item()))
    assert not dx[:, ~held].any()


@pytest.mark.parametrize(
    ("shapes", "attrs", "message"),
    [
        (
            [(2, 5, 3), (3, 3, 3, 4)],
            {},
            r"conv: found x of shape \(n, 5, 3\) and w of shape \(3, 3, 3, 4\), wanted a sample of",
        ),
        ([(2, 5), (3, 5)], {}, r"found x of shape \(n, 5\) and w of shape \(3, 5\)"),
        (
            [(2, 6, 5, 3), (3, 3, 2, 4)],
            {},
            r"x of shape \(n, 6, 5, 3\), w of shape \(3, 3, 2, 4\) and 1 groups, wanted w of shape",
        ),
        ([(2, 6, 5, 3), (3, 3, 1, 4)], {"groups": 2}, "and 2 groups, wanted w of shape"),
        ([(2, 6, 5, 4), (3, 3, 2, 3)], {"groups": 2}, "a number of groups that divides"),
        (
            [(2, 6, 5, 3), (3, 3, 3, 4), (3,)],
            {},
            r"conv: found b of shape \(3,\), wanted \(4,\) as w is \(3, 3, 3, 4\)",
        ),
        (
            [(2, 6, 5, 3), (3, 4, 3, 4)],
            {"dilation": 2},
            "a kernel of 4 that reaches over 7, wanted at most the 5 that axis 2 has",
        ),
        ([(2, 5, 3), (8, 3, 4)], {"padding": 1}, "wanted at most the 7 that axis 1 has"),
        ([(2, 0, 5, 3), (1, 1, 3, 4)], {}, "wanted at most the 0 that axis 1 has"),
        (
            [(2, 5, 3), (3, 3, 4)],
            {"padding": [1, 2]},
            r"padding of conv: found 2 numbers, wanted 1 for x of shape \(n, 5, 3\)",
        ),
        ([(2, 5, 3), (3, 3, 4)], {"stride": [1, 2, 3]}, "stride of conv: found 3 numbers"),
        ([(2, 5, 3), (3, 3, 4)], {"stride": 0}, "stride of conv: found 0, wanted an integer in"),
        ([(2, 5, 3), (3, 3, 4)], {"padding": 1.5}, "padding of conv: found 1.5"),
        ([(2, 5, 3), (3, 3, 4)], {"groups": 0}, "groups of conv: found 0"),
        (
            [(2, 65536, 65536, 65536), (1, 1, 65536, 1)],
            {"padding": 65536},
            "which no memory holds with its padding",
        ),
    ],
)
def test_errors_name_what_was_found_and_wanted(shapes, attrs, message):
    with pytest.raises(ValueError, match=message):
        _core.Node("conv", shapes, dtype="float64", attrs=attrs)


def test_integers_are_refused():
    with pytest.raises(ValueError, match="x of conv: found integers, wanted reals"):
        _core.Node("conv", [(2, 5, 3), (3, 3, 4)], dtype="float64", indices=(0,))
