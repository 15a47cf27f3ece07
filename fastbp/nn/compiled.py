"""`compile`: a module and a loss as a plan, which the engine runs whole.

Here is what ties the engine's plan to the module: names of inputs, outputs and parameters, and the
forms of data. How a plan is drawn and told is in describe.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _core
from fastbp.nn import checked, describe, objective
from fastbp.nn.cutting import cut
from fastbp.nn.forms import (
    converted,
    part,
    refuse_another_task,
    refuse_misshapen,
    refuse_other_kinds,
    several,
)
from fastbp.nn.module import Module
from fastbp.nn.parameter import Home
from fastbp.nn.profile import Profile
from fastbp.nn.runs import Tracing
from fastbp.nn.tracing import Input

Array = NDArray[Any]


class Plan:
    """A network, and perhaps its losses, compiled; see `compile`.

    Attributes
    ----------
    core : _core.Plan
        The engine's.
    title : str
        The class of the module.
    nodes : tuple of (str, dict)
        Of each node of the graph the path of the module that it belongs to, and its attributes.
    parameters : tuple of str
        Names, in the order of the flat buffer.
    inputs, outputs : tuple of str
        Names; of a single one "".
    losses : dict of str to (Loss, float)
        Of each output that has one, with its weight in the total.
    precision : str
        As told to `compile`.
    """

    def __init__(
        self,
        module: Module,
        losses: objective.Losses,
        inputs: Mapping[str, Input] | Input | None = None,
        traced: Tracing | None = None,
        precision: str = "full",
        checkpoints: list[int] | None = None,
    ) -> None:
        home = module._built()
        # Others than those that it was built for, where samples come in another form.
        inputs = home.inputs if inputs is None else inputs
        run = _run(module, home, inputs, traced)
        self._module, self._traced_for, self.title = module, inputs, type(module).__name__
        _refuse_other_parameters(home, run, self.title)
        objective.refuse_misplaced(losses, run, self.title)
        self.nodes = tuple(
            (path, attributes)
            for path, (_, attributes, _) in zip(run.graph.paths, run.graph.nodes, strict=True)
        )
        self.parameters = tuple(home.parameters)
        self.inputs = tuple(inputs) if isinstance(inputs, Mapping) else ("",)
        self.outputs = tuple(run.results)
        self.losses = dict(losses)
        self.precision = precision
        self.core = _compiled(run, losses, home.flat.dtype, precision, checkpoints)

    # ---- looking at it ----

    def describe(self) -> describe.Description:
        """What the plan runs, node by node, and what that takes.

        Returns
        -------
        Description
            Prints as a table; `dot()` and `svg()` draw the graph.

        Examples
        --------
        >>> from fastbp import compile, nn
        >>> network = nn.Sequential(nn.Linear(16), nn.ReLU()).build(4)
        >>> description = compile(network, "squared_error").describe()
        >>> [(one.module, one.row, one.shapes) for one in description.entries[:3]]
        [('', 'input', ((4,),)), ('0', 'linear', ((16,),)), ('1', 'relu', ((16,),))]
        >>> print(description.dot().splitlines()[0])
        digraph {
        """
        return describe.describe(self)

    def memory(
        self,
        batch_size: int,
        *,
        n_threads: int = 1,
        training: bool = True,
        optimizer: str | None = None,
        n_samples: int | None = None,
        accumulate: int = 1,
        clip_norm: float | None = None,
    ) -> dict[str, int]:
        """Bytes that the engine will take, by part, known before anything runs.

        Parameters
        ----------
        batch_size : int
            Samples of a step of training, or of a call that predicts; at least 1.
        n_threads : int, default=1
            Threads that it may use; small steps use fewer.
        training : bool, default=True
            Whether it is to train, rather than to predict.
        optimizer : str, default=None
            The update rule, whose state counts; None for one without.
        n_samples : int, default=None
            Samples of the data, of which training keeps the order; None for one step.
        accumulate : int, default=1
            Batches of a step, as of `fit`.
        clip_norm : float, default=None
            Where it is given, the gradients of all parameters are held at once.

        Returns
        -------
        dict of str to int
            "total" and its parts: "parameters", "weight_copies" (in the order in which products
            read them), "thread_scratch" and "other" (tables, targets and losses). In training also
            "activations" and "deltas" (of the whole batch, for the gradients of parameters;
            room that holds now the one, now the other counts as the former), "gradients" (of tiles
            and of blocks of samples; of all parameters at once where `clip_norm`, `accumulate`, a
            rule such as "lamb" or a checkpoint needs them), "optimizer_state", "order",
            and "last_epoch" (the parameters as they were then); in predicting "outputs". What
            Python code in a graph allocates is not known.

        Raises
        ------
        ValueError
            A number is too small, or there is no such rule.

        Examples
        --------
        >>> from fastbp import compile, nn
        >>> plan = compile(nn.Linear(16).build(4), "squared_error")
        >>> memory = plan.memory(32, optimizer="adam")
        >>> memory["parameters"], memory["optimizer_state"]
        (320, 640)
        >>> plan.memory(32, training=False)["outputs"]
        2048
        """
        if not training:
            return self.core.memory_of_predict(batch_size, n_threads=n_threads)
        if n_samples is None:
            n_samples = batch_size * accumulate
        return self.core.memory(
            batch_size,
            accumulate=accumulate,
            rule=optimizer,
            clip_norm=clip_norm,
            n_samples=n_samples,
            n_threads=n_threads,
        )

    def flops(self, batch_size: int) -> dict[str, float]:
        """FLOPs of a pass, counted from the shapes.

        Parameters
        ----------
        batch_size : int
            At least 1.

        Returns
        -------
        dict of str to float
            "forward", with the losses, and "backward", to parameters that are trained and through
            what they depend on: 0 where there is no loss. What checkpoints run again counts as
            backward. Updates are not counted, nor what a Function computes: `describe()` names
            those.

        Examples
        --------
        >>> from fastbp import compile, nn
        >>> plan = compile(nn.Linear(16).build(4))
        >>> plan.flops(1)
        {'forward': 128.0, 'backward': 0.0}
        """
        return self.core.flops(batch_size)

    def profile(self, X: Any, y: Any, *, repeats: int = 5) -> Profile:
        """Time a pass in training, node by node, on one thread.

        Small nodes come out roughly: the clock, read for each tile of samples, tells quarters of a
        microsecond.

        Parameters
        ----------
        X, y : array or dict of arrays
            Samples and targets, as of `check_gradients`.
        repeats : int, default=5
            Passes, of which each time is the least; at least 1.

        Returns
        -------
        Profile
            Prints as a table; `forward` and `backward` are the seconds in all.

        Raises
        ------
        ValueError
            The plan has no loss, or `repeats` is below 1.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import compile, nn
        >>> plan = compile(nn.Sequential(nn.Linear(16), nn.ReLU()).build(4), "squared_error")
        >>> profile = plan.profile(np.ones((50, 4)), np.ones((50, 16)))
        >>> profile.seconds.shape, profile.forward > 0
        ((2, 2), True)
        """
        if repeats < 1:
            raise ValueError(f"repeats: found {repeats}, wanted at least 1")
        if not self.losses:
            raise ValueError("profile: found a plan without a loss, wanted one that trains")
        home, samples, targets = self._module._built(), self.samples(X), self.targets(y)
        params, draws = home.settle(), (home.seed, 0)
        times = [self.core.profile(params, samples, targets, draws=draws) for _ in range(repeats)]
        *seconds, (gather, losses) = np.min(times, axis=0)
        first = len(self.inputs)
        nodes = self.describe().entries[first : first + len(self.nodes)]
        n_samples = len(targets[0] if isinstance(targets, tuple) else targets)
        return Profile(nodes, np.array(seconds), float(gather), float(losses), n_samples)

    def _gradient_problem(
        self, X: Any, y: Any, sample_weight: Any, alpha: float = 0.0
    ) -> tuple[Any, ...]:
        """What `check_gradients` asks for: see checked.py."""
        return checked.problem(self, self._module, X, y, sample_weight, alpha)

    def _looked_at(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, ...]:
        """What `diagnose` asks for: the plan, parameters, and data as the engine takes them."""
        if not self.losses:
            raise ValueError("diagnose: found a plan without a loss, wanted one that trains")
        flat = self._module._built().settle()
        return self, flat, self.samples(X), self.targets(y), sample_weight

    def _cut(self, n: int) -> Plan:
        """The same in n checkpoints of its own, whatever the module asks for."""
        numbers = cut(self.core.nodes, self.core.values, n)
        return Plan(
            self._module,
            self.losses,
            self._traced_for,
            precision=self.precision,
            checkpoints=numbers,
        )

    def _rounded(self, precision: str) -> Plan:
        """The same in another precision."""
        return Plan(self._module, self.losses, self._traced_for, precision=precision)

    def _of(self, module: Module) -> Plan:
        """The plan of a copy of the module, for inputs of the same form."""
        return Plan(module, self.losses, self._traced_for)

    # ---- data as the engine takes it ----

    def samples(self, X: Any, argument: str = "X") -> Any:
        """Inputs in the plan's order and dtypes: an array, or a tuple of arrays.

        `argument` is what errors call them.
        """
        names, dtypes = self.inputs, self.core.input_dtypes
        arrays = [
            converted(one, np.dtype(dtype), part(argument, name))
            for name, one, dtype in zip(names, several(X, names, argument), dtypes, strict=True)
        ]
        if names != ("",):
            refuse_misshapen(arrays, names, argument, self.core.input_shapes)
            refuse_other_kinds(arrays, names, argument, self.core.values)
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    def targets(self, y: Any, argument: str = "y") -> Any:
        """Targets in the order of the losses, as `samples`."""
        names, forms, arrays = tuple(self.losses), self.core.target_forms, []
        given = several(y, names, argument)
        for name, one, (shape, dtype) in zip(names, given, forms, strict=True):
            where = part(argument, name)
            refuse_another_task(one, self.losses[name][0].name, shape, where)
            arrays.append(converted(one, np.dtype(dtype), where))
        if names != ("",):
            refuse_misshapen(arrays, names, argument, [shape for shape, _ in forms])
        return arrays[0] if len(arrays) == 1 else tuple(arrays)


def _run(
    module: Module, home: Home, inputs: Mapping[str, Input] | Input, traced: Tracing | None
) -> Tracing:
    """A run for these inputs: the one that has just built the module, or a new one.

    The former took what is frozen for free.
    """
    if (
        traced is not None
        and inputs == home.inputs
        and not any(one.frozen for one, _, _ in traced.parameters)
    ):
        return traced
    run = Tracing(module, home.flat.dtype, building=False)
    run.trace(inputs)
    return run


def _refuse_other_parameters(home: Home, run: Tracing, title: str) -> None:
    found = [one.name for one, _, _ in run.parameters]
    if found != [*home.parameters]:
        raise ValueError(
            f"{title}: found parameters {found}, wanted those of when it was built, "
            f"{[*home.parameters]}; build(...) it again"
        )


def _compiled(
    run: Tracing,
    losses: objective.Losses,
    dtype: np.dtype[Any],
    precision: str,
    checkpoints: list[int] | None,
) -> _core.Plan:
    """The engine's plan of what was traced."""
    parameters = [
        {"shape": one.shape, "frozen": not one.trainable, "penalised": one.penalised}
        for one, _, _ in run.parameters
    ]
    graph = run.graph.specification(
        parameters, list(run.results.values()), objective.specified(losses, run)
    )
    if precision != "full" and dtype != np.float32:
        raise ValueError(
            f"precision: found {precision!r} for a network of {dtype}, wanted 'full', or a network"
            " of float32"
        )
    graph["precision"] = precision
    if checkpoints is not None:
        graph["checkpoints"] = checkpoints
    return _core.Plan(graph=graph, dtype=dtype)


def compile(module: Module, loss: Any = None, *, precision: str = "full") -> Plan:
    """Trace a built module once, with any number of samples, and compile it.

    Parameters
    ----------
    module : Module
        Built.
    loss : str, Loss or dict, default=None
        What training is to lower: a Loss, or the name of its row. Where the module has several
        outputs, a dict by their names of losses, or of pairs (loss, weight). None: the plan
        predicts only.
    precision : {"full", "bf16", "fp16"}, default="full"
        Of training a network of float32; see `fit`. Predictions do not depend on it.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        The loss does not fit the output, nothing is there to train, or the precision is none or
        not for this network.

    Examples
    --------
    >>> from fastbp import compile, nn
    >>> network = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(3)).build(4)
    >>> plan = compile(network, "softmax_cross_entropy")
    >>> plan.parameters
    ('0.weight', '0.bias', '2.weight', '2.bias')
    """
    return Plan(module, objective.losses_of(loss), precision=precision)
