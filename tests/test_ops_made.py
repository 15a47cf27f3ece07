"""Functions made from the table: their signatures, and that tensors run rows as nodes do."""

import inspect

import numpy as np
import pytest
from helpers import bits, over

from fastbp import Tensor, _core, checkpoint, no_grad, ops, value_and_grad
from fastbp.autodiff import Walk, state
from fastbp.ops.making import make
from fastbp.ops.running import NODES, RANDOM, ROWS, node
from fastbp.recompute import drawn
from fastbp.tensor import apply
from fastbp.testing import op_cases

OP_CASES = op_cases()


def test_every_row_that_runs_is_a_function():
    for name, row in ROWS.items():
        function = getattr(ops, name)
        assert function.__name__ == name
        assert name in ops.__all__
        assert inspect.getdoc(function)
        if name in ops.COMPOSED:
            continue
        assert row["doc"] in function.__doc__
        parameters = list(inspect.signature(function).parameters.values())
        inputs, attrs = parameters[: len(row["inputs"])], parameters[len(row["inputs"]) :]
        assert [parameter.name for parameter in inputs] == list(row["inputs"])
        assert sum(p.default is p.empty for p in inputs) == row["least_inputs"]
        words = {attr["name"]: attr for attr in row["attrs"]}
        if row["random"]:
            assert [parameter.name for parameter in attrs[-2:]] == ["draws", "training"]
            attrs = attrs[:-2]
        assert len(attrs) == len(words)
        for parameter in attrs:
            attr = words.get(parameter.name) or words["axes"]
            if attr["counts"] and attr["counts"][0] == 0:
                assert parameter.default is None
            elif np.isnan(attr["default"]):
                assert parameter.default is parameter.empty
            else:
                assert parameter.default == attr["default"]


def test_wrong_arguments_are_said_as_python_says_it():
    x = Tensor([1.0])
    with pytest.raises(TypeError, match=r"linear\(\) missing 1 required positional argument: 'w'"):
        ops.linear(x)
    with pytest.raises(TypeError, match=r"leaky_relu\(\) got an unexpected keyword argument 'a'"):
        x.leaky_relu(a=1)
    with pytest.raises(ValueError, match="slope of leaky_relu: found none, wanted a number"):
        x.leaky_relu(slope=float("nan"))
    with pytest.raises(AttributeError, match="has no attribute 'no_such'"):
        _ = ops.no_such


def test_optional_inputs_are_told_by_their_places():
    function = make({**ROWS["linear"], "least_inputs": 1})
    x, w = np.ones((2, 3)), np.ones((3, 2))
    np.testing.assert_array_equal(function(x, w, None), function(x, w))
    with pytest.raises(TypeError, match="linear: w is None beside b, wanted both or neither"):
        function(x, b=np.ones(2))


def prepared(case):
    """The arrays of a case, its attributes as `apply` takes them, and its node."""
    arrays = case.arrays()
    attrs = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in case.attrs.items())
    shapes = [array.shape for array in arrays]
    node = _core.Node(case.name, shapes, dtype="float64", attrs=case.attrs, indices=case.indices)
    return arrays, attrs, node


@over(OP_CASES)
def test_a_tensor_runs_a_row_as_a_node_does(case):
    """The same bits, forward and backward, whatever the row."""
    arrays, attrs, made = prepared(case)
    options = {"draws": case.draws, "training": case.training}
    outputs = made.forward(arrays, **options)
    can = made.differentiable
    inputs = [
        Tensor(array, requires_grad=True) if has else array
        for array, has in zip(arrays, can, strict=True)
    ]
    found = apply(case.name, inputs, attrs, **options)
    found = found if isinstance(found, tuple) else (found,)
    assert len(found) == made.n_results
    for ours, theirs in zip(found, outputs, strict=False):
        np.testing.assert_array_equal(bits(ours.data), bits(theirs))
    if not any(can):
        assert not any(result.requires_grad for result in found)
        return
    rng = np.random.default_rng(1)
    dy = [np.asarray(rng.standard_normal(result.shape)) for result in found]
    expected = made.backward(arrays, outputs, dy, can, **options)
    roots = [(y._entry, y._place, d) for y, d in zip(found, dy, strict=True)]
    gradients = Walk().run(roots)
    for x, slope in zip(inputs, expected, strict=True):
        if slope is not None:
            np.testing.assert_array_equal(bits(gradients[x._entry][0]), bits(slope))


@over([case for case in OP_CASES if ROWS[case.name]["tangent_of_backward"]])
def test_tangents_run_a_row_as_a_node_does(case):
    """The same bits, of the tangents of results and of gradients."""
    arrays, attrs, made = prepared(case)
    if not any(made.differentiable):
        return
    options = {"draws": case.draws, "training": case.training}
    rng = np.random.default_rng(2)
    tx = [
        np.asarray(rng.standard_normal(array.shape)) if can else None
        for array, can in zip(arrays, made.differentiable, strict=True)
    ]
    inputs = []
    for array, t in zip(arrays, tx, strict=True):
        inputs.append(array if t is None else Tensor(array, requires_grad=True))
        if t is not None:
            inputs[-1]._tangent = t
    outputs = made.forward(arrays, **options)
    ty = made.tangent(arrays, outputs, tx, **options)
    with state(tangents=True):
        found = apply(case.name, inputs, attrs, **options)
    found = found if isinstance(found, tuple) else (found,)
    for result, t in zip(found, ty, strict=False):
        np.testing.assert_array_equal(bits(result._tangent), bits(t))
    dy = [np.asarray(rng.standard_normal(result.shape)) for result in found]
    zero, can = [None] * len(dy), made.differentiable
    expected = made.backward_tangent(arrays, outputs, tx, ty, dy, zero, can, **options)
    roots = [(y._entry, y._place, d) for y, d in zip(found, dy, strict=True)]
    gradients = Walk(tangents=True).run(roots)
    for x, slope in zip(inputs, expected, strict=True):
        if slope is not None:
            np.testing.assert_array_equal(bits(gradients[x._entry][1]), bits(slope))


def test_random_rows_want_draws_in_training_only():
    x = Tensor(np.ones((40, 5)), requires_grad=True)
    for name in RANDOM:
        function = getattr(ops, name)
        one, again, another = (function(x, draws=(0, 1, n)) for n in (2, 2, 3))
        np.testing.assert_array_equal(one.data, again.data)
        assert (one.data != another.data).any()
        for evaluated in (function(x, training=False), function(x.detach()), function(x.data)):
            np.testing.assert_array_equal(np.asarray(getattr(evaluated, "data", evaluated)), x.data)
        with no_grad():
            np.testing.assert_array_equal(function(x).data, x.data)
        for run in (lambda: function(x), lambda: function(x.data, training=True)):  # noqa: B023
            with pytest.raises(ValueError, match=rf"{name}: found no draws in training, wanted"):
                run()


def test_random_masks_are_the_same_in_backward():
    """Where something was dropped its gradient is exactly zero; so too with a checkpoint."""
    x = np.random.default_rng(0).uniform(1, 2, (40, 5))
    steps = iter(range(2))

    def f(x):
        return ops.dropout(x * 2, draws=drawn(lambda: (7, next(steps), 1))).sum()

    value, slope = value_and_grad(f)(x)
    steps = iter(range(2))
    again, once_more = value_and_grad(checkpoint(f))(x)
    assert value == again
    np.testing.assert_array_equal(bits(slope), bits(once_more))
    assert set(slope.ravel()) == {0.0, 4.0}


def test_nodes_are_kept_for_the_next_time():
    node.cache_clear()
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    for _ in range(3):
        x.tanh().tanh()
    assert node.cache_info().misses == 1
    assert node.cache_info().hits == 5
    for n in range(NODES + 5):
        Tensor(np.ones(n)).tanh()
    assert node.cache_info().currsize == NODES


def test_integers_are_indices_only():
    z = np.zeros((3, 4))
    for target, message in [
        (np.zeros(3), "softmax_cross_entropy: target has dtype float64, wanted integers"),
        (Tensor(np.zeros(3)), "target has dtype float64, wanted integers"),
        (np.array([0, 1, 2**40]), "integers beyond"),
    ]:
        with pytest.raises((TypeError, IndexError), match=message):
            ops.softmax_cross_entropy(z, target)
    for out_of_range in ([0, 1, 4], [0, -5, 1]):
        with pytest.raises((ValueError, IndexError)):
            ops.softmax_cross_entropy(z, out_of_range)
    np.testing.assert_allclose(ops.softmax_cross_entropy(z, [0, 1, 3]), np.log(4), rtol=1e-15)
