"""A plan as the gradient check takes it: in float64, with names and places of its parameters.

The check itself knows no modules and is in gradcheck.py, above this.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _core

if TYPE_CHECKING:
    from fastbp.nn.compiled import Plan
    from fastbp.nn.module import Module

Vector = NDArray[np.float64]

# Of the normal noise that moves parameters off values at which gradients vanish, such as 0: as much
# as starting values of layers some ten units wide differ.
SPREAD = 0.2


class Training:
    """The loss of training as a function of the parameters: with the masks of the first step.

    Attributes
    ----------
    tensors : tuple of dict
        Name, offset in the flat buffer and shape of each parameter that is trained.
    """

    def __init__(self, plan: Plan, core: _core.Plan, module: Module) -> None:
        home = module._built()
        self._core, self._draws = core, (home.seed, 0)
        self.n_params, self.dtype = core.n_params, core.dtype
        n_inputs = len(plan.inputs)
        self.tensors = tuple(
            {"name": name, "offset": core.values[n_inputs + i]["offset"], "shape": one.shape}
            for i, (name, one) in enumerate(home.parameters.items())
            if one.trainable
        )

    def loss_gradient(
        self,
        params: Vector,
        X: Any,
        y: Any,
        *,
        grad: Vector | None = None,
        sample_weight: Any = None,
        alpha: float = 0.0,
    ) -> float:
        """The engine's, in training."""
        return self._core.loss_gradient(
            params, X, y, grad=grad, sample_weight=sample_weight, alpha=alpha, draws=self._draws
        )


def problem(
    plan: Plan, module: Module, X: Any, y: Any, sample_weight: Any, alpha: float
) -> tuple[Training, Vector, Any, Any, Any, float, Vector]:
    """A float64 plan, its parameters, data, and parameters where no gradient vanishes by chance.

    Parameters
    ----------
    plan : Plan
    module : Module
        Which it was made of.
    X, y : array or dict of arrays
        As `Plan.samples` and `Plan.targets` take them.
    sample_weight : array_like of shape (n_samples,) or None
    alpha : float
        Strength of the penalty.

    Returns
    -------
    tuple
    """
    if not plan.losses:
        raise ValueError(
            "check_gradients: found a plan without a loss, wanted that of compile(module, loss)"
        )
    module._built().settle()
    exact = _rebuilt(deepcopy(module))
    doubled = plan._of(exact)
    training = Training(doubled, doubled.core, exact)
    if sample_weight is not None:
        sample_weight = np.ascontiguousarray(sample_weight, np.float64)
    return (
        training,
        exact._built().flat,
        doubled.samples(X),
        doubled.targets(y),
        sample_weight,
        alpha,
        _moved(_rebuilt(deepcopy(module), afresh=True)._built().flat, training.tensors),
    )


def _rebuilt(module: Module, *, afresh: bool = False) -> Module:
    """A built module in float64, with its values or with starting values."""
    home = module._built()
    if afresh:
        module.reset()
    return module.build(home.inputs, seed=home.seed, dtype=np.float64)


def _moved(flat: Vector, tensors: tuple[Mapping[str, Any], ...]) -> Vector:
    """The values of what is trained, each moved a little at random."""
    rng = np.random.default_rng(0)
    for one in tensors:
        size = int(np.prod(one["shape"]))
        flat[one["offset"] : one["offset"] + size] += SPREAD * rng.standard_normal(size)
    return flat
