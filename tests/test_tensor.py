"""Tensors as arrays: values, dtypes, conversions, copies, and the errors of their misuse.

What is differentiated is in test_autodiff.py.
"""

import copy
import pickle

import numpy as np
import pytest
from expressions import EXPRESSIONS
from helpers import DTYPES, over, over_dtypes

from fastbp import Tensor, no_grad, ops

# ------------------------------------------------------------------------------------------- values


@over_dtypes
@over(EXPRESSIONS, "expression")
def test_values_are_those_of_numpy(expression, dtype):
    arguments = expression.arguments(dtype)
    found = expression.on_tensors(*map(Tensor, arguments))
    expected = expression.witness(*(x.astype(np.float64) for x in arguments))
    assert isinstance(found, Tensor)
    assert found.shape == np.shape(expected)
    assert found.dtype == dtype
    # At most some dozens of operations on numbers below 20.
    bound = 50 * np.finfo(dtype).eps * (1 + np.abs(expected).max(initial=0))
    np.testing.assert_allclose(found.data, expected, rtol=0, atol=bound)


def test_functions_of_arrays_give_arrays():
    x = np.array([0.5, -1.0])
    found = ops.tanh(x)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, Tensor(x).tanh().data)
    np.testing.assert_array_equal(ops.stack([x, x], axis=1), np.stack([x, x], axis=1))
    assert type(ops.matmul(x, np.eye(2))) is np.ndarray


def test_an_array_beside_a_tensor_leaves_it_the_operator():
    x, a = Tensor([1.0, 2.0]), np.array([3.0, 5.0])
    for found, expected in [
        (a + x, [4, 7]),
        (a - x, [2, 3]),
        (a * x, [3, 10]),
        (a / x, [3, 2.5]),
        (a @ x, 13),
        (a < x, [0, 0]),
        (np.float64(2) * x, [2, 4]),
        (np.float32(2) - x, [1, 0]),
        (3 / x, [3, 1.5]),
        (True * x, [1, 2]),
        ([3.0, 5.0] * x, [3, 10]),
    ]:
        assert isinstance(found, Tensor)
        np.testing.assert_array_equal(found.data, expected)
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.exp(x)


def test_operands_that_hold_no_numbers_are_left_to_python():
    x = Tensor([1.0])
    assert (x == None) is False  # noqa: E711
    assert (x != "x") is True
    with pytest.raises(TypeError, match="unsupported operand"):
        x + "1"
    with pytest.raises(TypeError, match="unsupported operand"):
        {} - x
    with pytest.raises(TypeError, match="found str as exponent"):
        x ** "2"
    for power in (lambda: x**x, lambda: 2**x):
        with pytest.raises(TypeError, match=r"exponent.*\.exp\(\)"):
            power()


# ------------------------------------------------------------------------------------------- dtypes


def test_the_constructor_keeps_and_converts():
    for data, dtype in [
        ([1, 2], np.float64),
        (3, np.float64),
        ((1.5, 2), np.float64),
        (np.float64(2), np.float64),
        (np.zeros(2, np.float32), np.float32),
        (np.zeros(2), np.float64),
        (np.array([True, False]), np.float64),
        ([[1], [2]], np.float64),
    ]:
        assert Tensor(data).dtype == dtype
    assert Tensor(np.arange(3), dtype="float32").dtype == np.float32
    assert Tensor([1, 2], dtype=np.float32).dtype == np.float32
    for data, message in [
        (np.arange(3), "has dtype int64, wanted float32 or float64; astype"),
        (np.zeros(2, np.float16), "has dtype float16"),
        (np.zeros(2, complex), "has dtype complex128"),
        (np.zeros(2, ">f8"), "has dtype >f8"),
        (["a"], "holds values of dtype <U1, wanted real numbers"),
        ([None], "holds values of dtype object"),
        (Tensor([1.0]), "detach"),
    ]:
        with pytest.raises(TypeError, match=message):
            Tensor(data)
    with pytest.raises(TypeError, match="found dtype int32, wanted float32 or float64"):
        Tensor([1], dtype="int32")


@over_dtypes
def test_numbers_and_masks_take_the_dtype_beside_them(dtype):
    x = Tensor(np.ones((2, 2), dtype))
    others = (2, 2.5, True, np.float64(0.1), np.int64(3), [1, 2], np.array([True, False]))
    for one in others:
        assert (x * one).dtype == (one - x).dtype == dtype
    assert (x > 1).dtype == dtype
    assert ops.where(x > 1, 0.0, x).dtype == dtype


def test_two_dtypes_are_never_promoted():
    single, double = (np.ones(2, dtype) for dtype in DTYPES)
    for left, right in [
        (Tensor(single), Tensor(double)),
        (Tensor(single), double),
        (double, Tensor(single)),
        (Tensor(double), single),
    ]:
        with pytest.raises(TypeError, match=r"add: \w+ has dtype float\d\d, wanted float\d\d as"):
            left + right
    with pytest.raises(TypeError, match="has dtype int64, wanted float64"):
        Tensor(double) + np.arange(2)


def test_astype_of_a_constant():
    x = Tensor([1.5], requires_grad=True)
    assert x.detach().astype(np.float32).dtype == np.float32
    with pytest.raises(TypeError, match="astype: the tensor requires a gradient"):
        x.astype(np.float32)


# ------------------------------------------------------------------------------------------- memory


def test_a_constant_shares_and_a_leaf_copies():
    data = np.zeros(3)
    assert Tensor(data).data is data
    leaf = Tensor(data, requires_grad=True)
    leaf.data += 1
    assert data.tolist() == [0, 0, 0]
    strided = np.zeros((3, 4)).T
    assert Tensor(strided).data.flags.c_contiguous


def test_data_is_assigned_with_the_same_shape_and_dtype():
    x = Tensor([1.0, 2.0], requires_grad=True)
    x.data = np.array([3.0, 4.0])
    x.data[0] = 5
    assert x.data.tolist() == [5, 4]
    for value, message in [
        ([1.0, 2.0], "found list"),
        (np.zeros(2, np.float32), "found float32"),
        (np.zeros(3), r"found shape \(3,\), wanted \(2,\)"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            x.data = value
    with pytest.raises(ValueError, match="a recorded result"):
        (x * 2).data = np.zeros(2)


def test_recorded_results_cannot_be_written_over():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    with pytest.raises(ValueError, match="read-only"):
        y.data[0] = 3
    with no_grad():
        z = x.exp()
    z.data[0] = 3


# ------------------------------------------------------------------------------- numbers and arrays


def test_out_of_a_tensor():
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    assert [row.data.tolist() for row in x] == [[1, 2], [3, 4]]
    assert (x.shape, x.ndim, x.size) == ((2, 2), 2, 4)
    assert x.numpy() is x.data
    np.testing.assert_array_equal(np.asarray(x), x.data)
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    assert x.sum().item() == float(x.sum()) == int(x.sum()) == 10
    assert f"{x.mean():.2f}" == "2.50"
    assert f"{x.sum()}" == "Tensor(10.)"
    assert x.argmax() == 3
    assert x.argmin(axis=0).tolist() == [0, 0]
    assert x.sort(axis=0).tolist() == [[1, 2], [3, 4]]
    assert (x / 3).round(1).tolist() == [[0.3, 0.7], [1.0, 1.3]]
    assert bool(Tensor(1.0) > 0) and not bool(Tensor([0.0]))


def test_out_of_a_tensor_is_refused_with_a_reason():
    x = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match=r"bool: found a tensor of shape \(2,\)"):
        bool(x == x)
    with pytest.raises(ValueError, match="size 1"):
        x.item()
    with pytest.raises(TypeError, match="found no axes"):
        len(x.sum())
    with pytest.raises(TypeError, match="item assignment"):
        x[0] = 1.0
    with pytest.raises(AttributeError):
        x.requires_gard = True


def test_a_path_is_not_cut_in_silence():
    """R119: whatever leaves the record says so."""
    x = Tensor([2.0], requires_grad=True)
    for leave in (np.asarray, Tensor.numpy, float, int, np.sqrt, lambda x: np.stack([x, x])):
        with pytest.raises(TypeError, match=r"detach|item|ufuncs"):
            leave(x * 3)
    assert (x * 3).item() == 6
    assert (x * 3).detach().numpy() == [6]
    assert not x.detach().requires_grad
    assert x.detach().data is x.data


def test_what_has_no_gradient_says_what_to_use_instead():
    """R72: integers and orders cannot be in the path of a gradient."""
    x = Tensor([2.0, 1.0], requires_grad=True)
    for name, instead in [
        ("argmax", r"softmax\(x\)"),
        ("argmin", r"softmax\(-x\)"),
        ("argsort", "take_along"),
        ("sort", "take_along"),
        ("round", "Function with check=False"),
    ]:
        with pytest.raises(TypeError, match=f"{name} has no gradient.*detach.*{instead}"):
            getattr(x, name)()
        getattr(x.detach(), name)()
        with no_grad():
            getattr(x, name)()


@pytest.mark.parametrize("dtype", DTYPES)
def test_repr(dtype):
    x = Tensor(np.ones(2, dtype), requires_grad=True)
    suffix = "" if dtype == np.float64 else ", dtype=float32"
    assert repr(x) == f"Tensor([1., 1.]{suffix}, requires_grad=True)"
    assert repr(x.exp().detach() * 0) == f"Tensor([0., 0.]{suffix})"
    assert repr(x * 2) == f"Tensor([2., 2.]{suffix}, made by multiply)"


def test_tensors_are_keys_by_identity():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x, y, x}) == 2


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_of_leaves(copied):
    x = Tensor([[1.0, 2.0]], requires_grad=True)
    (x * x).sum().backward()
    again = copied(x)
    np.testing.assert_array_equal(again.data, x.data)
    assert again.requires_grad and again.is_leaf
    np.testing.assert_array_equal(again.grad, x.grad)
    (again * 3).sum().backward()
    assert x.grad.tolist() == [[2, 4]]
    assert not copied(Tensor([1.0])).requires_grad
    with pytest.raises(TypeError, match=r"detach\(\)"):
        copied(x * 2)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (5, IndexError, "index 5 is out of bounds for axis 0 with size 2"),
        ((0, -4), IndexError, "index -4 is out of bounds for axis 1 with size 3"),
        ((0, 0, 0), IndexError, r"found 3 indices for an array of shape \(2, 3\)"),
        ((..., ...), IndexError, r"more than one"),
        (np.array([0, 2]), IndexError, "out of bounds"),
        (np.array([0.5]), IndexError, "integer"),
        (slice(0, 2, 0), ValueError, "step cannot be zero"),
        (np.array([True, False, True]), IndexError, "boolean index did not match"),
        (Tensor([2.0, 1.0]), IndexError, "found a tensor of numbers, wanted a mask"),
    ],
)
def test_wrong_indices(key, error, message):
    with pytest.raises(error, match=message):
        Tensor(np.zeros((2, 3)))[key]


def test_wrong_shapes():
    x = Tensor(np.zeros((2, 3)))
    for run, message in [
        (lambda: x.reshape(4, 2), r"found shape \(2, 3\), which has no form \(4, 2\)"),
        (lambda: x.reshape(-1, 4), "has no form"),
        (lambda: x.reshape(-1, -1), "has no form"),
        (lambda: x @ x, "linear"),
        (lambda: x @ 2.0, "wanted no numbers"),
        (lambda: ops.stack([x, x], axis=4), "found axis 4"),
        (lambda: x.var(correction=6), "found 6 elements"),
        (lambda: x + np.zeros(2), "add"),
    ]:
        with pytest.raises(ValueError, match=message):
            run()
