"""Functions that make derivatives of functions: `grad`, `vjp`, `jvp` and their like.

The function that is differentiated takes and returns tensors; what comes out of these is NumPy's,
so that it goes into SciPy's optimisers as it is. They use the one record of autodiff.py, and leave
the `.grad` of tensors that the function happens to use alone. An array of derivatives is recorded
by nobody: second derivatives are `hessian_vector_product`, and a tensor that requires a gradient is
refused as an argument, lest its path be cut in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.autodiff import STATE, Leaf, Walk, state
from fastbp.ops import running
from fastbp.tensor import Tensor

Array = NDArray[Any]


def value_and_grad(
    f: Callable[..., Tensor], argnums: int | Sequence[int] = 0
) -> Callable[..., tuple[Any, Any]]:
    """A function of the same arguments that returns f's value and its gradient.

    Parameters
    ----------
    f : callable
        Returns a tensor of one element.
    argnums : int or sequence of int, default=0
        By which positional arguments; these are arrays or numbers, and f gets them as tensors.

    Returns
    -------
    callable
        Returns the value, a NumPy number, and the gradient: an array for an int, a tuple of arrays
        for a sequence.

    Raises
    ------
    RuntimeError
        When called: where the value does not depend on one of these arguments.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.optimize import minimize
    >>> from fastbp import value_and_grad
    >>> def bowl(x):
    ...     return ((x - np.array([1.0, 2.0])) ** 2).sum()
    >>> minimize(value_and_grad(bowl), np.zeros(2), jac=True).x.round(6)
    array([1., 2.])
    """
    single = isinstance(argnums, int)
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @wraps(f)
    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        given = list(args)
        leaves = _traced_arguments("grad", given, places)
        with state(recording=True, tangents=False, stretch=None):
            value = f(*given, **kwargs)
        _expect_number("grad", value)
        start = np.ones(value.shape, value.dtype)
        gradients = _back("grad", [value], [start], leaves, retain=False)
        return value.data[()], gradients[0] if single else tuple(gradients)

    return both


def grad(f: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function of the same arguments that returns f's gradient.

    Parameters
    ----------
    f : callable
        Returns a tensor of one element.
    argnums : int or sequence of int, default=0
        By which positional arguments.

    Returns
    -------
    callable
        Returns an array for an int, a tuple of arrays for a sequence.

    See Also
    --------
    value_and_grad : Returns the value as well, at the same cost.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import grad
    >>> grad(lambda x: (x**3).sum())(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    both = value_and_grad(f, argnums)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """f's results at a point, and the function that pulls gradients of them back to the point.

    Parameters
    ----------
    f : callable
        Returns a tensor or a tuple of tensors.
    *primals : array_like
        f's arguments.

    Returns
    -------
    results : ndarray or tuple of ndarray
        As f returns them.
    pullback : callable
        Takes an array for each result and returns, for each argument, the vector-Jacobian product:
        an array for a single argument, else a tuple. It may be called again and again, and holds
        the record as long as it lives.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import vjp
    >>> value, pullback = vjp(lambda x, y: x * y, np.array([1.0, 2.0]), np.array([3.0, 5.0]))
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 3., 50.]), array([ 1., 20.]))
    """
    given = list(primals)
    leaves = _traced_arguments("vjp", given, range(len(given)))
    with state(recording=True, tangents=False, stretch=None):
        results, single = _as_results("vjp", f(*given))

    def pullback(*cotangents: Any) -> Any:
        if len(cotangents) != len(results):
            raise ValueError(
                f"vjp: found {len(cotangents)} arrays to pull back, wanted {len(results)}"
            )
        starts = [
            _like("vjp", "cotangent", one, result.data)
            for one, result in zip(cotangents, results, strict=True)
        ]
        gradients = _back("vjp", results, starts, leaves, retain=True)
        return gradients[0] if len(gradients) == 1 else tuple(gradients)

    values = tuple(result.data.copy() for result in results)
    return values[0] if single else values, pullback


def jvp(f: Callable[..., Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
    """f's results at a point and their derivatives along a direction, by forward mode.

    One run of f computes both, and nothing is recorded.

    Parameters
    ----------
    f : callable
        Returns a tensor or a tuple of tensors.
    primals : array_like or tuple of array_like
        f's arguments.
    tangents : array_like or tuple of array_like
        The direction, of the same shapes.

    Returns
    -------
    results, derivatives : ndarray or tuple of ndarray
        As f returns them.

    Raises
    ------
    LookupError
        Where a row has no tangent, with its name.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import jvp
    >>> jvp(lambda x: x**2, np.array([1.0, 3.0]), np.array([1.0, 0.0]))
    (array([1., 9.]), array([2., 0.]))
    """
    given, directions = _pairs("jvp", primals, tangents)
    duals = [_dual(x, t) for x, t in zip(given, directions, strict=True)]
    with _forward("jvp", recording=False):
        results, single = _as_results("jvp", f(*duals))
    if all(result._tangent is None for result in results):
        raise RuntimeError(f"jvp: the result does not depend on the arguments{results[0]._why()}")
    # Copies, since a function may return what it got.
    values = tuple(result.data.copy() for result in results)
    along = tuple(
        np.zeros_like(result.data) if result._tangent is None else result._tangent.copy()
        for result in results
    )
    return (values[0], along[0]) if single else (values, along)


def hessian_vector_product(f: Callable[..., Tensor], primals: Any, tangents: Any) -> Any:
    """The Hessian of f at a point times a vector: the derivative of the gradient along it.

    Forward over reverse: f runs once with tangents, and one pass goes back with the gradients and
    their tangents. It costs about four times what f costs, whatever the number of arguments.

    Parameters
    ----------
    f : callable
        Returns a tensor of one element.
    primals : array_like or tuple of array_like
        f's arguments.
    tangents : array_like or tuple of array_like
        The vector, of the same shapes.

    Returns
    -------
    ndarray or tuple of ndarray
        Of the shapes of `primals`.

    Raises
    ------
    LookupError
        Where a row has no tangent of its backward, with its name.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import hessian_vector_product
    >>> x, v = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    >>> hessian_vector_product(lambda x: (x**3).sum(), x, v)
    array([ 6., 12.])
    """
    name = "hessian_vector_product"
    given, directions = _pairs(name, primals, tangents)
    duals = [_dual(x, t) for x, t in zip(given, directions, strict=True)]
    leaves = [_leaf(dual) for dual in duals]
    with _forward(name, recording=True):
        value = f(*duals)
    _expect_number(name, value)
    if value._entry is None:
        raise RuntimeError(f"{name}: the result does not depend on the arguments{value._why()}")
    walk = Walk(since=leaves[0].number, tangents=True)
    start = np.ones(value.shape, value.dtype)
    found = walk.run([(value._entry, value._place, start)])
    products = []
    for leaf, x in zip(leaves, given, strict=True):
        if leaf not in found:
            raise RuntimeError(f"{name}: the result does not depend on one of the arguments")
        tangent = found[leaf][1]
        products.append(np.zeros_like(x) if tangent is None else tangent)
    return tuple(products) if isinstance(primals, tuple) else products[0]


# ------------------------------------------------------------------------------- what they all need


def _array(name: str, value: Any) -> Array:
    """An argument as an array, of which nothing is recorded."""
    if isinstance(value, Tensor):
        if value.requires_grad or value._tangent is not None:
            raise TypeError(
                f"{name}: found an argument that requires a gradient, which would not be recorded: "
                "detach() it; second derivatives are hessian_vector_product"
            )
        return value.data
    return running.reals(value, None, f"{name}: the argument")


def _leaf(x: Tensor) -> Leaf:
    x._entry = leaf = Leaf(x.shape)
    return leaf


def _traced_arguments(name: str, given: list[Any], places: Sequence[int]) -> list[Leaf]:
    """Puts leaves of the record in place of the arguments at `places`."""
    leaves = []
    for place in places:
        if not -len(given) <= place < len(given):
            raise ValueError(f"{name}: found {len(given)} positional arguments and argnums {place}")
        given[place] = Tensor(_array(name, given[place]))
        leaves.append(_leaf(given[place]))
    return leaves


def _pairs(name: str, primals: Any, tangents: Any) -> tuple[list[Array], list[Array]]:
    """Points and directions as lists of arrays that fit."""
    points = primals if isinstance(primals, tuple) else (primals,)
    directions = tangents if isinstance(tangents, tuple) else (tangents,)
    if len(points) != len(directions) or not points:
        raise ValueError(
            f"{name}: found {len(points)} primals and {len(directions)} tangents, wanted as many"
        )
    arrays = [_array(name, one) for one in points]
    along = [_like(name, "tangent", t, x) for t, x in zip(directions, arrays, strict=True)]
    return arrays, along


def _like(name: str, what: str, value: Any, like: Array) -> Array:
    array = running.reals(value, like.dtype, f"{name}: the {what}")
    if array.shape != like.shape:
        raise ValueError(f"{name}: found a {what} of shape {array.shape}, wanted {like.shape}")
    return array


def _dual(x: Array, t: Array) -> Tensor:
    dual = Tensor(x)
    dual._tangent = t
    return dual


def _forward(name: str, *, recording: bool) -> Any:
    """The state of a run with tangents, of which there is one set at a time."""
    if STATE.get().tangents:
        raise RuntimeError(
            f"{name}: found another forward mode at work; second derivatives are "
            "hessian_vector_product"
        )
    return state(recording=recording, tangents=True, stretch=None)


def _as_results(name: str, results: Any) -> tuple[list[Tensor], bool]:
    """What f returned as a list, and whether it was a single tensor."""
    single = not isinstance(results, tuple)
    listed = [results] if single else list(results)
    for one in listed:
        _expect_tensor(name, one)
    return listed, single


def _expect_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}: the function returned {type(value).__name__}, wanted a Tensor: whatever else "
            "it computes with is not recorded"
        )


def _expect_number(name: str, value: Any) -> None:
    _expect_tensor(name, value)
    if value.size != 1:
        raise ValueError(
            f"{name}: the function returned shape {value.shape}, wanted one element; vjp and jvp "
            "take any"
        )


def _back(
    name: str, results: list[Tensor], starts: list[Array], leaves: list[Leaf], *, retain: bool
) -> list[Array]:
    """Gradients by the leaves, of all of which the results have to depend."""
    roots = [
        (result._entry, result._place, start)
        for result, start in zip(results, starts, strict=True)
        if result._entry is not None
    ]
    found = Walk(retain=retain, since=min(leaf.number for leaf in leaves)).run(roots)
    for i, leaf in enumerate(leaves):
        if leaf not in found:
            raise RuntimeError(
                f"{name}: the result does not depend on argument {i} of those that it is "
                f"differentiated by{_cut_of(results)}"
            )
    return [found[leaf][0] for leaf in leaves]


def _cut_of(results: list[Tensor]) -> str:
    return next((why for why in (result._why() for result in results) if why), "")
