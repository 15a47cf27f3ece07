"""`Module`: a description of a network or of a part of one, and the values that it has once built.

A module's `__init__` stores, its `forward` computes. What layers compute is theirs, in which ways
`forward` runs is told in running.py, how parameters start in initializers.py, and what a graph is
compiled to in compiled.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.base import BaseEstimator

from fastbp.nn import initializers, locking
from fastbp.nn.forms import by_name, refuse_other_names
from fastbp.nn.parameter import Home, Parameter
from fastbp.nn.runs import RUN, Eager, Tracing, under
from fastbp.nn.tracing import Input
from fastbp.tensor import Tensor

Array = NDArray[Any]


class Module(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A part of a network, or a whole one.

    A subclass stores its arguments under their names in `__init__`, where it may also make further
    modules, and computes in `forward`, from tensors, with `fastbp.ops` and operators, for any
    number of samples along the first axis. What training is to change it gets from
    `self.parameter(name, shape, init)`, within `forward`, where the shapes of inputs are known.

    A module has no arrays until `build` has been told the shapes of inputs and a seed. Then all
    parameters of the network lie in one flat buffer, of which those of each module are views.

    Parameters of the description are scikit-learn's: `get_params`, `set_params` (which runs
    `__init__` again) and `clone`, which copies a module with the values that it has.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn, ops
    >>> class Gated(nn.Module):
    ...     def __init__(self, width):
    ...         self.width = width
    ...         self.gate = nn.Linear(width)
    ...
    ...     def forward(self, x):
    ...         scale = self.parameter("scale", (self.width,), 1.0)
    ...         return x * self.gate(x).logistic() * scale
    >>> module = Gated(3).build(3, seed=1)
    >>> module(np.ones((2, 3), np.float32)).shape
    (2, 3)
    >>> sorted(module.parameters())
    ['gate.bias', 'gate.weight', 'scale']
    """

    # What a module has once it is built; no __init__ has to know of them.
    _parameters: Mapping[str, Parameter] = {}
    _home: Home | None = None
    # Patterns of names, as told to freeze().
    _frozen: tuple[str, ...] = ()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the module computes: a tensor, or a dict of tensors by name."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """`forward`, on tensors or arrays; of a network that is built, or within one's forward."""
        if (run := RUN.get()) is not None:
            return run.call(self, inputs, named)
        home = self._built()
        inputs = tuple(_as_tensor(x, home.flat.dtype, f"input {i}") for i, x in enumerate(inputs))
        named = {name: _as_tensor(x, home.flat.dtype, name) for name, x in named.items()}
        with under(Eager(home)):
            return self.forward(*inputs, **named)

    # ---- for forward ----

    def parameter(self, name: str, shape: tuple[int, ...], init: Any = "zeros") -> Any:
        """In `forward`: the parameter of this name, the same whenever it is asked for.

        Parameters
        ----------
        name : str
            Any but those of attributes.
        shape : tuple of int
        init : str, float or Initializer, default="zeros"
            What its values start from: a name of `nn.init`, a number for all of them, or an
            initialiser.

        Returns
        -------
        Tensor of that shape
        """
        run = RUN.get()
        if run is None:
            raise RuntimeError(
                f"parameter {name!r}: found no run of a network, wanted this within a forward; "
                "parameters() lists what a built module has"
            )
        return run.parameter(self, name, tuple(map(int, shape)), init)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in (found := self._known()):
            run, one = RUN.get(), found[name]
            return one.tensor if run is None else run.parameter(self, name, one.shape, one.init)
        words = f"{type(self).__name__!r} has no attribute {name!r}"
        if name in self._get_param_names():
            words += f": __init__ has to store its argument, self.{name} = {name}"
        raise AttributeError(words)

    def _known(self) -> Mapping[str, Parameter]:
        """Its parameters, also those that it has in a run that is building it."""
        run = RUN.get()
        return self._parameters if run is None else run.known(self)

    # ---- parts ----

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are attributes, or stand in lists, tuples or dicts that are."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
                continue
            several: Iterable[tuple[Any, Any]] = ()
            if isinstance(value, dict):
                several = value.items()
            elif isinstance(value, (list, tuple)):
                several = enumerate(value)
            for key, one in several:
                if isinstance(one, Module):
                    yield f"{name}.{key}", one

    def modules(self) -> dict[str, Module]:
        """This module, under "", and all parts of it, by path; a shared one by its first."""
        found: dict[str, Module] = {}
        self._walk("", found, set())
        return found

    def _walk(self, path: str, found: dict[str, Module], met: set[int]) -> None:
        if id(self) in met:
            return
        met.add(id(self))
        found[path] = self
        for name, child in self.children():
            child._walk(f"{path}.{name}" if path else name, found, met)

    def parameters(self) -> dict[str, Parameter]:
        """The parameters of this module and its parts, by path and name, in the buffer's order."""
        self._built()
        found = [
            (f"{path}.{name}" if path else name, one)
            for path, module in self.modules().items()
            for name, one in module._parameters.items()
        ]
        return dict(sorted(found, key=lambda named: named[1]._offset))

    # ---- values ----

    def build(self, inputs: Any, *, seed: int = 0, dtype: DTypeLike = np.float32) -> Self:
        """Find out what parameters there are, and give them their first values.

        Parts that have values, of another network that was built or trained, keep them; the
        network that they come from has to be built again before it is used.

        Parameters
        ----------
        inputs : int, tuple of int, Input, array or dict of these
            The shape of a sample, without the axis of the samples, or an array of samples, of
            which integers are what the network takes them for: indices where it looks them up, as
            embeddings do, else numbers. A dict by the names of `forward`'s arguments where there
            are several, or a structured array of which each field is one.
        seed : int, default=0
            Of starting values and random masks: between 0 and 2**64 - 1.
        dtype : float32 or float64, default=float32
            Of values and arithmetic. float32 is twice as fast.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Shapes do not fit, a part has values of another shape (`reset` forgets them), or what
            `forward` does is not the same for each sample.
        RuntimeError
            It is in training, or a part of it is.
        """
        self._build(inputs, seed, np.dtype(dtype))
        return self

    def _build(
        self,
        inputs: Any,
        seed: int,
        dtype: np.dtype[Any],
        argument: str = "inputs",
        *,
        flat: Array | None = None,
        run: Tracing | None = None,
    ) -> Tracing:
        """`build`; the run that found out what there is, for who compiles it at once.

        `argument` is what errors call the inputs. With `flat` nothing is drawn: that is the buffer,
        and holds the values. `run` is one that has not begun, in place of a plain one.
        """
        given = inputs_like(inputs, argument)
        run = Tracing(self, dtype, building=True) if run is None else run
        try:
            run.trace(given)
        except TypeError:
            self._refuse_other_inputs(by_name(inputs), argument)
            raise
        found_out = run.graph.inputs
        given = (
            dict(zip(given, found_out, strict=True)) if isinstance(given, dict) else found_out[0]
        )
        found = run.parameters
        with self._changing("built"):
            home = Home((one for one, _, _ in found), given, seed, dtype, flat)
            # All are drawn before any module lets go of what it has.
            for place, (one, owner, name) in enumerate(found if flat is None else ()):
                home.view(one)[...] = _start(one, owner._parameters.get(name), home, place)
            modules = [*self.modules().values()]
            for module in modules:
                module._home, module._parameters = home, {}
            for one, owner, name in found:
                owner._parameters = {**owner._parameters, name: one}
            for module in modules:
                module._freeze_parameters(module._frozen)
        return run

    def _refuse_other_inputs(self, given: Any, argument: str) -> None:
        """A ValueError where `forward` takes other inputs: others by name, or several."""
        signature = inspect.signature(self.forward)
        try:
            signature.bind(**given) if isinstance(given, dict) else signature.bind(given)
        except TypeError:
            named = [
                one
                for one in signature.parameters.values()
                if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
            ]
            optional = [one.name for one in named if one.default is not one.empty]
            refuse_other_names(given, [one.name for one in named], argument, optional)

    def reset(self) -> Self:
        """Forget all values: the module is a description again."""
        with self._changing("reset"):
            for module in self.modules().values():
                module.__dict__.pop("_home", None)
                module.__dict__.pop("_parameters", None)
        return self

    @contextmanager
    def _changing(self, doing: str) -> Iterator[None]:
        """Hold the networks that the module and its parts are of: none is in training meanwhile."""
        homes = dict[int, tuple[Home, str]]()
        for path, module in self.modules().items():
            if module._home is not None:
                where = f"part {path!r}" if path else "network"
                homes.setdefault(id(module._home), (module._home, where))
        with ExitStack() as stack:
            for home, where in homes.values():
                name = f"{type(self).__name__}'s {where}"
                stack.enter_context(locking.exclusively(home, name, doing))
            yield

    def _built(self) -> Home:
        """What it keeps, once built."""
        home = self._home
        if home is None:
            raise RuntimeError(
                f"{type(self).__name__} has no values yet, wanted build(inputs) first, with the "
                "shape of a sample"
            )
        if any(module._home is not home for module in self.modules().values()):
            raise RuntimeError(
                f"{type(self).__name__} has parts that were since built into another network; "
                "build() it again, or copy.deepcopy() parts before they are built in"
            )
        return home

    # ---- freezing ----

    def freeze(self, *names: str) -> Self:
        """Have training leave parameters as they are.

        Parameters
        ----------
        *names : str
            Parameters or parts of this module, by their paths, in which `*` stands for anything:
            "0", "encoder.*.bias". None is all.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No parameter of a built module has such a name.
        """
        patterns = names or ("*",)
        if self._home is not None:
            self._freeze_parameters(patterns)
        self._frozen = (*self._frozen, *patterns)
        return self

    def unfreeze(self) -> Self:
        """Have training change all parameters of this module and its parts again."""
        for module in self.modules().values():
            module._frozen = ()
            for one in module._parameters.values():
                one.frozen = False
        return self

    def _freeze_parameters(self, patterns: tuple[str, ...]) -> None:
        if not patterns:
            return
        parameters = self.parameters()
        for pattern in patterns:
            below = [one for name, one in parameters.items() if is_below(name, pattern)]
            if not below:
                raise ValueError(
                    f"freeze: found {pattern!r}, wanted a part or a parameter, of {[*parameters]}"
                )
            for one in below:
                one.frozen = True

    # ---- scikit-learn's protocols ----

    def set_params(self, **params: Any) -> Self:
        """Change the description; `__init__` runs again, so that what it makes of them follows.

        Values of this module are forgotten, those of parts that it was given are not.
        """
        with self._changing("changed"):
            super().set_params(**params)
            own = self.get_params(deep=False)
            for name in [name for name in vars(self) if name != "_frozen"]:
                delattr(self, name)
            self._initialise(own)
        return self

    def _initialise(self, params: dict[str, Any]) -> None:
        """`__init__` from what `get_params(deep=False)` gives."""
        type(self).__init__(self, **params)

    def __sklearn_clone__(self) -> Self:
        # With its values, which are a part of the description: fine-tuning starts from them.
        return deepcopy(self)


def _as_tensor(x: Any, dtype: np.dtype[Any], where: str) -> Any:
    """An array of reals as a constant, so that forward's methods are those of tensors."""
    if not isinstance(x, (np.ndarray, Tensor)) or x.dtype.kind != "f":
        return x
    if x.dtype != dtype:
        raise TypeError(
            f"{where}: found dtype {x.dtype}, wanted {dtype}, that of the network; astype converts "
            "it, build(..., dtype=...) makes another network"
        )
    return x if isinstance(x, Tensor) else Tensor(x)


def is_below(name: str, pattern: str) -> bool:
    """Whether a pattern names a parameter, or a part that it is in."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _start(one: Parameter, before: Parameter | None, home: Home, place: int) -> Any:
    """What a parameter starts from: what it was before, or what its initialiser draws."""
    if before is None:
        return initializers.start(one.init, one.shape, home.seed, place, home.flat.dtype)
    if before.shape != one.shape:
        raise ValueError(
            f"{one.name}: has values of shape {before.shape}, wanted {one.shape} for these inputs; "
            "reset() forgets the values of a module"
        )
    return before.data


def inputs_like(inputs: Any, argument: str = "inputs") -> dict[str, Input] | Input:
    """One input, or several by name, as `build` takes them."""
    inputs = by_name(inputs)
    if not isinstance(inputs, dict):
        return Input.like(inputs, argument)
    if not inputs:
        raise ValueError(f"{argument}: found an empty dict, wanted at least one input")
    return {name: Input.like(one, f"{argument}[{name!r}]") for name, one in inputs.items()}
