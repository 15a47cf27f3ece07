"""Every op of the table as a node: values, gradients and tangents, on the cases of its family.

Three witnesses: the forward in plain NumPy (reference_ops), central differences of that function in
float64, and the identities that tie the engine's own functions together. A new op is tested as soon
as it has a case; one without a case or a reference fails the suite.
"""

import numpy as np
import pytest
import reference_ops
from helpers import STEP, bits, over, over_dtypes

from fastbp import _core
from fastbp.testing import activation_inputs, cases, loss_inputs, op_cases, rows

OP_CASES = op_cases()
NODES = [row["name"] for row in rows("op") if not row["reads_sparse"]]

over_ops = over(OP_CASES)


class Run:
    """A case as a node with its arrays, and what forward makes of them."""

    def __init__(self, case, dtype=np.float64, arrays=None):
        self.case = case
        self.x = case.arrays(dtype) if arrays is None else arrays
        self.node = _core.Node(
            case.name,
            [array.shape for array in self.x],
            dtype=dtype,
            attrs=case.attrs,
            indices=case.indices,
        )
        self.options = {"draws": case.draws, "training": case.training}
        self.y = self.node.forward(self.x, **self.options)
        self.results = self.y[: self.node.n_results]

    def random(self, like, seed):
        """Random arrays, and None where there can be no gradient or tangent."""
        rng = np.random.default_rng([seed, 7])
        return [
            None if a is None else np.asarray(rng.standard_normal(a.shape), a.dtype) for a in like
        ]

    @property
    def inputs(self):
        """The inputs that have gradients, None in place of the others."""
        return [a if can else None for a, can in zip(self.x, self.node.differentiable, strict=True)]

    def backward(self, dy):
        return self.node.backward(self.x, self.y, dy, self.node.differentiable, **self.options)

    def tangent(self, tx):
        return self.node.tangent(self.x, self.y, tx, **self.options)

    def backward_tangent(self, tx, dy, tdy):
        ty = self.tangent(tx)
        wanted = self.node.differentiable
        return self.node.backward_tangent(self.x, self.y, tx, ty, dy, tdy, wanted, **self.options)


def moved(arrays, along, h):
    """Arrays moved by h along others, None being zero."""
    pairs = zip(arrays, along, strict=True)
    return [x if t is None else np.asarray(x + h * t) for x, t in pairs]


def referred(case, arrays):
    """The results by the reference, in float64."""
    wide = [a if a.dtype == np.int32 else a.astype(np.float64) for a in arrays]
    random = {} if case.draws is None else {"draws": case.draws, "training": case.training}
    results = reference_ops.OPS[case.name](*wide, **case.attrs, **random)
    return list(results) if isinstance(results, tuple) else [results]


def inner(left, right):
    """The sum of products over lists of arrays, None being zero, and that of their magnitudes."""
    pairs = [
        (a.astype(np.float64), b.astype(np.float64))
        for a, b in zip(left, right, strict=True)
        if a is not None and b is not None
    ]
    return sum(np.sum(a * b) for a, b in pairs), sum(np.sum(np.abs(a * b)) for a, b in pairs)


def test_every_op_has_a_case_and_a_reference():
    assert set(NODES) == {case.name for case in OP_CASES} == set(reference_ops.OPS)


@over_dtypes
@over_ops
def test_forward_against_the_reference(case, dtype):
    run = Run(case, dtype)
    expected = referred(case, run.x)
    assert len(run.results) == len(expected)
    for ours, theirs in zip(run.results, expected, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == dtype
        # A chain of n operations on terms that add up to s is off by at most n eps s; the terms
        # are at most some times as large as the largest result.
        n = run.node.flops_forward * (run.node.samples or 1) / max(1, ours.size)
        scale = np.abs(theirs).max(initial=1.0)
        bound = (8 + 2 * n) * np.finfo(dtype).eps * scale
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)


# Central differences of a function f with step h = eps^(1/3) are off by about h^2 / 6 f''' and
# eps f / h, 4e-11 each where f and its third derivative are near 1. Functions here are sums of many
# such terms, whose magnitudes are added up, and third derivatives may be a hundred times as large.
FINITE = 100 * 4e-11


@over_ops
def test_gradients_against_finite_differences_of_the_reference(case):
    run = Run(case)
    for seed in range(3):
        dy, tx = run.random(run.results, seed), run.random(run.inputs, seed + 10)
        for i, t in enumerate(tx):
            if t is None:
                continue
            alone = [t if j == i else None for j in range(len(tx))]
            above, size = inner(dy, referred(case, moved(run.x, alone, STEP)))
            below, _ = inner(dy, referred(case, moved(run.x, alone, -STEP)))
            ours, sum_of_terms = inner(run.backward(dy), alone)
            bound = FINITE * (1 + size + sum_of_terms)
            assert abs(ours - (above - below) / (2 * STEP)) < bound, f"input {i}"


@over_ops
def test_tangents_are_the_adjoint_of_gradients(case):
    """<dy, J tx> = <J' dy, tx>: R91. The same products in another order, so rounding alone."""
    run = Run(case)
    for seed in range(3):
        dy, tx = run.random(run.results, seed), run.random(run.inputs, seed + 10)
        forward, size = inner(dy, run.tangent(tx)[: run.node.n_results])
        backward, other = inner(run.backward(dy), tx)
        n = run.node.flops_forward + run.node.flops_backward
        assert abs(forward - backward) <= 8 * np.finfo(float).eps * (1 + size + other) * (
            8 + np.sqrt(n)
        )


TWICE = {row["name"] for row in _core.table() if row["tangent_of_backward"]}


@over([case for case in OP_CASES if case.name in TWICE])
def test_tangents_of_gradients_against_finite_differences(case):
    run = Run(case)
    for seed in range(2):
        dy, tdy = run.random(run.results, seed), run.random(run.results, seed + 5)
        tx, v = run.random(run.inputs, seed + 10), run.random(run.inputs, seed + 20)
        values = []
        for h in (STEP, -STEP):
            beside = Run(case, arrays=moved(run.x, tx, h))
            slopes = beside.backward(moved(dy, tdy, h))
            values.append(inner(slopes, v))
        ours, size = inner(run.backward_tangent(tx, dy, tdy), v)
        expected = (values[0][0] - values[1][0]) / (2 * STEP)
        assert abs(ours - expected) < FINITE * (1 + size + values[0][1])


@over_dtypes
@over_ops
def test_a_sample_is_its_own(case, dtype):
    """Results and gradients of a sample have the same bits whichever others run with it."""
    run = Run(case, dtype)
    n, batched = run.node.samples, run.node.batched
    if not any(batched) or case.draws is not None:
        return
    dy = run.random(run.results, 1)
    dx = run.backward(dy)
    for part in (slice(0, 1), slice(n // 2, None), slice(None, None, -1)):
        arrays = [
            np.ascontiguousarray(a[part]) if has else a
            for a, has in zip(run.x, batched, strict=True)
        ]
        alone = Run(case, dtype, arrays)
        assert alone.node.samples == len(range(n)[part])
        for ours, whole in zip(alone.results, run.results, strict=True):
            np.testing.assert_array_equal(bits(ours), bits(np.ascontiguousarray(whole[part])))
        slopes = alone.backward([np.ascontiguousarray(d[part]) for d in dy])
        for slope, whole, has in zip(slopes, dx, batched, strict=True):
            if has and slope is not None:
                np.testing.assert_array_equal(bits(slope), bits(np.ascontiguousarray(whole[part])))


@over_dtypes
@over_ops
def test_every_instruction_set_with_fused_multiply_add_gives_the_same_bits(case, dtype, force_isa):
    isas = [isa for isa in _core.build_info()["isas"] if isa not in ("v2", "base")]
    found = []
    for isa in isas:
        force_isa(isa)
        run = Run(case, dtype)
        dy = run.random(run.results, 1)
        found.append([*run.y, *(slope for slope in run.backward(dy) if slope is not None)])
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(bits(ours), bits(theirs))


@over_ops
def test_no_samples(case):
    """An empty batch gives empty results, and gradients of zero for what the samples share."""
    run = Run(case)
    if not any(run.node.batched):
        return
    empty = Run(
        case,
        arrays=[a[:0] if has else a for a, has in zip(run.x, run.node.batched, strict=True)],
    )
    assert [y.shape for y in empty.results] == [(0, *y.shape[1:]) for y in run.results]
    for slope, has in zip(empty.backward(list(empty.results)), run.node.batched, strict=True):
        assert slope is None or has or not slope.any()


# ------------------------------------------------------- activations, functions and losses as ops


@over_dtypes
@over(cases("activation") + cases("function"))
def test_a_function_as_an_op_has_the_bits_of_the_function(case, dtype):
    x = activation_inputs(case, dtype)
    node = _core.Node(case.name, [x.shape], dtype=dtype, attrs=case.attrs)
    y = node.forward([x])
    np.testing.assert_array_equal(bits(y[0]), bits(_core.activation(case.name, x, case.attrs)))
    one, other = np.ones_like(x), np.linspace(-1, 1, x.size, dtype=dtype)
    first = _core.activation(case.name, x, case.attrs, order=1)
    second = _core.activation(case.name, x, case.attrs, order=2)
    np.testing.assert_array_equal(node.backward([x], y, [one], [True])[0], first)
    np.testing.assert_array_equal(node.tangent([x], y, [one])[0], first)
    # ddx = tdy f' + dy f'' tx, for tdy = 0 and dy = 1
    (ours,) = node.backward_tangent([x], y, [other], [None], [one], [None], [True])
    with np.errstate(invalid="ignore"):  # 0 * inf, where a slope is infinite
        expected = 0 * first + second * other
    np.testing.assert_array_equal(ours, expected)


@over_dtypes
@over(cases("loss"))
def test_a_loss_as_an_op_has_the_bits_of_the_loss(case, dtype):
    z, t = loss_inputs(case, dtype=dtype)
    classes = t.dtype == np.int32
    node = _core.Node(
        case.name,
        [z.shape, t.shape],
        dtype=dtype,
        attrs=case.attrs,
        indices=(1,) if classes else (),
    )
    (value,) = node.forward([z, t])
    expected, slope = _core.loss(case.name, z, t, case.attrs)
    np.testing.assert_array_equal(bits(value), bits(expected))
    scale = np.linspace(0.5, 2, len(z), dtype=dtype)
    assert node.differentiable == (True, False)
    (one, _) = node.backward([z, t], [value], [np.ones_like(scale)], [True, False])
    np.testing.assert_array_equal(one, slope)
    (ours, _) = node.backward([z, t], [value], [scale], [True, False])
    # Two roundings more than the gradient: of its scale and of the product.
    np.testing.assert_allclose(ours, scale[:, None] * slope, rtol=4 * np.finfo(dtype).eps)
    tz = np.random.default_rng(5).standard_normal(z.shape).astype(dtype)
    tvalue, tslope = _core.loss_tangent(case.name, z, t, tz, case.attrs)
    np.testing.assert_array_equal(node.tangent([z, t], [value], [tz, None])[0], tvalue)
    (ours, _) = node.backward_tangent(
        [z, t], [value], [tz, None], [tvalue], [np.ones_like(scale)], [None], [True, False]
    )
    np.testing.assert_array_equal(ours, tslope)


# ------------------------------------------------------------------------------------------ misuse


def test_errors_name_op_argument_and_shapes():
    for name, shapes, message in [
        ("linear", [(3, 4), (5, 6)], r"linear: found x of shape \(n, 4\) and w of shape \(5, 6\)"),
        ("linear", [(3, 4), (4, 6), (5,)], r"linear: found b of shape \(5,\), wanted \(6,\)"),
        ("linear", [(3, 4)], "linear: found 1 inputs, wanted 2 to 3"),
        ("linear", [(), (4, 6)], "linear: found a number as input 0"),
        ("squared_error", [(3, 4), (3, 5)], r"found z of shape \(n, 4\) and a target of reals"),
        ("no_such", [(3, 4)], "found 'no_such', wanted the name of a row"),
        ("linear_csr", [(3, 4)], "runs in plans only"),
    ]:
        with pytest.raises((ValueError, LookupError), match=message):
            _core.Node(name, shapes, dtype="float64")


def test_arrays_are_checked():
    node = _core.Node("linear", [(3, 4), (4, 2)], dtype="float64")
    x, w = np.zeros((3, 4)), np.zeros((4, 2))
    for arrays, message in [
        ([x], "found 1 arrays, wanted 2"),
        ([x, w.astype(np.float32)], "found dtype float32, wanted float64"),
        ([x, w.T], r"found shape \(2, 4\), wanted \(4, 2\)"),
        ([x, np.zeros((4, 4))[:, ::2]], "wanted a C-contiguous one"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            node.forward(arrays)
    with pytest.raises(ValueError, match="found an open number of samples"):
        _core.Node("linear", [(None, 4), (4, 2)], dtype="float64").forward([x, w])
