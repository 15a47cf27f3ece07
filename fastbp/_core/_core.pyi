from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Attributes = Mapping[str, float] | None

def table() -> tuple[dict[str, Any], ...]: ...
def build_info() -> dict[str, Any]: ...
def set_isa(name: str | None) -> None: ...
def max_threads() -> int: ...
def in_forked_child() -> bool: ...
def allocation_count() -> int: ...
def allocated_bytes() -> int: ...
def fail_allocation(nth: int) -> None: ...
def activation(name: str, x: Array, attrs: Attributes = None, order: int = 0) -> Array: ...
def loss(name: str, z: Array, t: Array, attrs: Attributes = None) -> tuple[Array, Array]: ...
def loss_tangent(
    name: str, z: Array, t: Array, dz: Array, attrs: Attributes = None
) -> tuple[Array, Array]: ...
def link(name: str, z: Array) -> Array: ...
def update(
    rule: str,
    w: Array,
    g: Array,
    states: Sequence[Array],
    rate: float,
    step: int,
    attrs: Attributes = None,
) -> None: ...
def elementary(name: str, x: Array) -> Array: ...
def narrow(x: Any, precision: str) -> NDArray[np.uint16]: ...
def widen(bits: Any, precision: str) -> NDArray[np.float32]: ...
def permutation(seed: int, epoch: int, n: int) -> NDArray[np.uint32]: ...
def uniform(seed: int, stream: int, n: int, low: float, high: float, dtype: DTypeLike) -> Array: ...
def normal(seed: int, stream: int, n: int, dtype: DTypeLike) -> Array: ...

Shape = tuple[int | None, ...]
Draws = tuple[int, int, int] | tuple[int, int, int, int] | None

class Node:
    name: str
    dtype: np.dtype[Any]
    samples: int | None
    shapes: tuple[Shape, ...]
    contents: tuple[np.dtype[Any], ...]
    batched: tuple[bool, ...]
    outputs: tuple[Shape, ...]
    n_results: int
    differentiable: tuple[bool, ...]
    reads_inputs: tuple[bool, ...]
    reads_outputs: tuple[bool, ...]
    flops_forward: float
    flops_backward: float
    def __init__(
        self,
        name: str,
        shapes: Sequence[Shape],
        *,
        dtype: DTypeLike,
        attrs: Mapping[str, float | Sequence[float]] | None = None,
        indices: Sequence[int] = (),
    ) -> None: ...
    def forward(
        self, x: Sequence[Array | None], *, draws: Draws = None, training: bool = False
    ) -> list[Array]: ...
    def follow(self, y: Array, p: Array, momentum: float) -> None: ...
    def backward(
        self,
        x: Sequence[Array | None],
        y: Sequence[Array | None],
        dy: Sequence[Array | None],
        wanted: Sequence[bool],
        *,
        draws: Draws = None,
        training: bool = False,
    ) -> list[Array | None]: ...
    def tangent(
        self,
        x: Sequence[Array | None],
        y: Sequence[Array | None],
        tx: Sequence[Array | None],
        *,
        draws: Draws = None,
        training: bool = False,
    ) -> list[Array]: ...
    def backward_tangent(
        self,
        x: Sequence[Array | None],
        y: Sequence[Array | None],
        tx: Sequence[Array | None],
        ty: Sequence[Array | None],
        dy: Sequence[Array | None],
        tdy: Sequence[Array | None],
        wanted: Sequence[bool],
        *,
        draws: Draws = None,
        training: bool = False,
    ) -> list[Array | None]: ...

class Plan:
    n_inputs: int
    n_outputs: int
    n_params: int
    dtype: np.dtype[Any]
    precision: str
    sparse: bool
    uses_blas: bool
    tensors: tuple[dict[str, Any], ...]
    layers: tuple[dict[str, Any], ...]
    loss: str
    target: Literal["real", "nonnegative", "binary", "class"]
    nodes: tuple[dict[str, Any], ...]
    values: tuple[dict[str, Any], ...]
    parameters: tuple[dict[str, Any], ...]
    losses: tuple[dict[str, Any], ...]
    outputs: tuple[int, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    input_dtypes: tuple[np.dtype[Any], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    target_forms: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    def __init__(
        self,
        n_inputs: int = 0,
        layers: Sequence[tuple[str, Mapping[str, float]]] = (),
        loss: tuple[str, Mapping[str, float]] | None = None,
        *,
        dtype: DTypeLike,
        sparse: bool = False,
        graph: Mapping[str, Any] | None = None,
    ) -> None: ...
    def predict(self, params: Array, X: Any, *, raw: bool = False, n_threads: int = 1) -> Array: ...
    def freeze(self, params: Array) -> Frozen: ...
    def loss_gradient(
        self,
        params: Array,
        X: Any,
        y: Array,
        *,
        sample_weight: Array | None = None,
        alpha: float = 0.0,
        grad: Array | None = None,
        draws: tuple[int, int] | None = None,
        n_threads: int = 1,
    ) -> float: ...
    def tangent(
        self, params: Array, X: Any, dparams: Array, *, dX: Array | None = None
    ) -> Array: ...
    def hessian_product(
        self,
        params: Array,
        X: Any,
        y: Array,
        v: Array,
        *,
        sample_weight: Array | None = None,
        alpha: float = 0.0,
        draws: tuple[int, int] | None = None,
    ) -> Array: ...
    def trace(
        self,
        params: Array,
        X: Any,
        y: Any,
        *,
        sample_weight: Array | None = None,
        values: Sequence[int] | None = None,
        gradients: Sequence[int] | None = None,
    ) -> tuple[dict[int, Array], dict[int, Array]]: ...
    def inspect(
        self, params: Array, X: Any, y: Array, *, sample_weight: Array | None = None
    ) -> list[dict[str, Array]]: ...
    def memory(
        self,
        batch_size: int,
        *,
        accumulate: int = 1,
        rule: str | None = None,
        clip_norm: float | None = None,
        n_samples: int = 0,
        n_threads: int = 1,
    ) -> dict[str, int]: ...
    def profile(
        self, params: Array, X: Any, y: Any, *, draws: tuple[int, int] | None = None
    ) -> Array: ...
    def memory_of_predict(self, n_samples: int, *, n_threads: int = 1) -> dict[str, int]: ...
    def balance(self, batch_size: int, n_threads: int) -> dict[str, Any]: ...
    def flops(self, batch_size: int) -> dict[str, float]: ...
    def order(self) -> tuple[tuple[str, int], ...]: ...

class Frozen:
    plan: Plan
    def __init__(self, plan: Plan, params: Array) -> None: ...
    def predict(self, X: Any, *, raw: bool = False, n_threads: int = 1) -> Array: ...

FIRST_SCALING: tuple[int, int, int]

class Training:
    progress: dict[str, Any]
    def __init__(
        self,
        plan: Plan,
        params: Array,
        X: Any,
        y: Array,
        *,
        rule: str,
        attrs: Attributes = None,
        states: Array,
        alpha: float = 0.0,
        batch_size: int,
        accumulate: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        rate_factors: Sequence[float] | Array | None = None,
        decay_factors: Sequence[float] | Array | None = None,
        sample_weight: Array | None = None,
        shuffle: bool = True,
        seed: int = 0,
        n_threads: int = 1,
    ) -> None: ...
    def run(
        self,
        rates: Any,
        *,
        first_epoch: int = 0,
        step: int = 0,
        scaling: tuple[int, int, int] = ...,
        step_losses: Array | None = None,
        gradient_norms: Array | None = None,
    ) -> dict[str, Any]: ...
