"""The ways in which a network's `forward` runs: on tensors, at once, and to be traced.

A run tells the modules within it where their parameters are, what random masks are functions of,
and whether it trains. Modules ask it by way of `RUN`, and know nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp.autodiff import STATE, state
from fastbp.nn.parameter import Home, Parameter
from fastbp.nn.tracing import Graph, Input, Traced
from fastbp.ops import running
from fastbp.ops.running import Draws, call
from fastbp.recompute import drawn
from fastbp.tensor import Tensor

if TYPE_CHECKING:
    from fastbp.nn.module import Module

Array = NDArray[Any]
Shape = tuple[int, ...]


class Run(Protocol):
    """One run of a network, from the call of the outermost module to its end."""

    def call(self, module: Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """The `forward` of a module that is called in this run."""

    def parameter(self, module: Module, name: str, shape: Shape, init: Any) -> Any:
        """The values of a module's parameter."""

    def known(self, module: Module) -> Mapping[str, Parameter]:
        """The parameters that a module has so far."""

    def random(self, op: Callable[..., Any], x: Any, **attrs: Any) -> Any:
        """A row with random masks on x."""

    def follow(
        self, module: Module, name: str, row: str, x: Any, *, init: Array, momentum: float
    ) -> Any:
        """In training the row of x, which the parameter of this name follows; else the parameter.

        It moves by a share of `momentum`, in the way that the row has. A frozen one stays, and is
        taken in training too.
        """


RUN: ContextVar[Run | None] = ContextVar("fastbp.nn.run", default=None)


@contextmanager
def under(run: Run) -> Iterator[None]:
    """Within it modules are part of a run."""
    token = RUN.set(run)
    try:
        yield
    finally:
        RUN.reset(token)


def current(what: str) -> Run:
    """The run of which this is a part."""
    run = RUN.get()
    if run is None:
        raise RuntimeError(f"{what}: found no run of a network, wanted this within a forward")
    return run


# -------------------------------------------------------------------------------------- on tensors

_TRAINING: ContextVar[bool | None] = ContextVar("fastbp.nn.training", default=None)


@contextmanager
def training(value: bool) -> Iterator[None]:
    """Whether modules that are called on tensors run as in training, within a `with` statement.

    Without it they do where gradients are recorded, and not within `no_grad()`: it is needed for
    gradients of a network as it predicts, and for random masks without gradients.

    Parameters
    ----------
    value : bool

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> layer = nn.Dropout(0.5).build(4)
    >>> with nn.training(False):
    ...     layer(np.ones((1, 4), np.float32)).data
    array([[1., 1., 1., 1.]], dtype=float32)
    """
    token = _TRAINING.set(bool(value))
    try:
        yield
    finally:
        _TRAINING.reset(token)


def _changed(module: Module, what: str) -> ValueError:
    return ValueError(
        f"{type(module).__name__}: found a run that {what}, wanted one as when it was built; "
        "build(...) the network again where it has changed"
    )


class Eager:
    """A run on tensors."""

    def __init__(self, home: Home) -> None:
        given = _TRAINING.get()
        self.training = STATE.get().recording if given is None else given
        self._home = home
        self._step, self._masks = -1, 0

    def call(self, module: Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        return module.forward(*inputs, **named)

    def parameter(self, module: Module, name: str, shape: Shape, init: Any) -> Tensor:
        one = module._parameters.get(name)
        if one is None or one.shape != shape:
            raise _changed(module, f"asks for a parameter {name!r} of shape {shape}")
        return one.tensor

    def known(self, module: Module) -> Mapping[str, Parameter]:
        return module._parameters

    def random(self, op: Callable[..., Any], x: Any, **attrs: Any) -> Any:
        if not self.training:
            return op(x, **attrs, training=False)
        return op(x, **attrs, draws=drawn(self._draw), training=True)

    def _draw(self) -> Draws:
        """What the next mask is a function of: its place in this run, as in a plan in its graph."""
        if self._step < 0:
            self._step = self._home.next_step()
        self._masks += 1
        return self._home.seed, self._step, self._masks - 1

    def follow(
        self, module: Module, name: str, row: str, x: Any, *, init: Array, momentum: float
    ) -> Any:
        tensor = self.parameter(module, name, init.shape, init)
        one = module._parameters[name]
        if not self.training or one.frozen:
            return tensor
        found = call(row, (x,))
        node = running.node(row, one.tensor.dtype, (x.shape,))
        # Once, also where a checkpointed part runs again.
        drawn(lambda: node.follow(found.data, one.data, momentum))
        one.tensor._changed()
        return found


# ----------------------------------------------------------------------------------------- tracing


class Tracing:
    """A run on values without numbers, which finds out the graph and its parameters.

    Parameters
    ----------
    root : Module
    dtype : numpy.dtype
    building : bool
        Whether the parameters are made now, rather than those that modules have.

    Attributes
    ----------
    graph : Graph
    parameters : list of (Parameter, Module, str)
        In the order of the graph's, with the module that has it and its name there.
    results : dict of str to Traced
        The outputs by name, "" for the only one, once there has been a trace.
    """

    def __init__(self, root: Module, dtype: np.dtype[Any], *, building: bool) -> None:
        self.graph = Graph(dtype)
        self.parameters: list[tuple[Parameter, Module, str]] = []
        self.results: dict[str, Traced] = {}
        self._root, self._building = root, building
        self._paths = {id(module): path for path, module in root.modules().items()}
        self._values: dict[int, dict[str, tuple[Parameter, Traced]]] = {}  # by module and name

    def trace(self, inputs: Mapping[str, Input] | Input) -> None:
        """Runs `forward`, on the network's inputs."""
        # As if gradients were recorded, of which checkpoints are a part.
        with under(self), state(recording=True, stretch=None):
            if isinstance(inputs, Input):
                made = self._root(self.graph.input(inputs))
            else:
                made = self._root(**{name: self.graph.input(one) for name, one in inputs.items()})
        several: dict[str, Traced] = made if isinstance(made, dict) else {"": made}
        for name, value in several.items():
            if not (
                isinstance(value, Traced) and value.has_samples and value.dtype == self.graph.dtype
            ):
                where = f"{type(self._root).__name__}: output {name!r}".removesuffix(" ''")
                found = value if isinstance(value, Traced) else type(value).__name__
                raise TypeError(
                    f"{where}: found {found}, wanted a tensor made of the inputs, or a dict of them"
                )
        self.results = several

    def call(self, module: Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        graph, outer = self.graph, self.graph.path
        graph.path = self._paths.get(id(module), outer)
        try:
            return module.forward(*inputs, **named)
        finally:
            graph.path = outer

    def parameter(
        self, module: Module, name: str, shape: Shape, init: Any, *, learns: bool = True
    ) -> Traced:
        mine = self._values.setdefault(id(module), {})
        if name not in mine:
            one = self._new(module, name, shape, init, learns)
            mine[name] = one, self.graph.parameter(shape)
            self.parameters.append((one, module, name))
        one, value = mine[name]
        if one.shape != shape:
            raise ValueError(
                f"{one.name}: found shape {shape} where it is used again, wanted {one.shape} as at "
                "its first use"
            )
        return value

    def _new(self, module: Module, name: str, shape: Shape, init: Any, learns: bool) -> Parameter:
        if not self._building:
            known = module._parameters.get(name)
            if known is None or known.shape != shape:
                raise _changed(module, f"asks for a parameter {name!r} of shape {shape}")
            return known
        path = self._paths.get(id(module))
        if path is None:
            raise ValueError(
                f"{type(module).__name__}: found a module with parameters that is made in forward, "
                "where it is another one each time; wanted it made in __init__"
            )
        return Parameter(f"{path}.{name}" if path else name, shape, init, learns=learns)

    def known(self, module: Module) -> Mapping[str, Parameter]:
        return {name: one for name, (one, _) in self._values.get(id(module), {}).items()}

    def random(self, op: Callable[..., Any], x: Any, **attrs: Any) -> Any:
        return op(x, **attrs)

    def follow(
        self, module: Module, name: str, row: str, x: Any, *, init: Array, momentum: float
    ) -> Any:
        stand_in = self.parameter(module, name, init.shape, init, learns=False)
        if self.known(module)[name].frozen:
            return stand_in
        made = call(row, (x,))
        self.graph.running.append((stand_in.place.number, made.place, momentum))
        return made
