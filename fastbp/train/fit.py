"""`fit`: a network in hand is trained in place, whole epochs in C.

Here a user's arguments become what `stochastic.train` is told. Labels, scores and copies of the
network are the estimators' affair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np

from fastbp.nn import locking
from fastbp.nn.compiled import Plan, compile
from fastbp.nn.forms import by_name, part
from fastbp.nn.module import Module
from fastbp.nn.parameter import Array, Home
from fastbp.train import lbfgs, stochastic, threads
from fastbp.train.groups import factors_of
from fastbp.train.limits import within
from fastbp.train.options import batch_size_of, check_options
from fastbp.train.rates import rates_of
from fastbp.train.reading import sample_weights
from fastbp.train.result import FitResult, result_of
from fastbp.train.rules import rule_of
from fastbp.train.state import Problem, Settings, TrainingState, Validation
from fastbp.train.validation import LossTerm, divided, hold_out, mean_loss, terms_of


def fit(
    module: Module,
    loss: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    optimizer: str = "adam",
    optimizer_params: dict[str, float] | None = None,
    learning_rate_init: float = 0.001,
    schedule: Any = None,
    alpha: float = 0.0,
    rate_factors: dict[str, float] | None = None,
    decay_factors: dict[str, float] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    batch_size: int | str = "auto",
    accumulate: int = 1,
    memory_limit: int | None = None,
    max_epochs: int = 10,
    shuffle: bool = True,
    seed: int | None = None,
    validation_data: Sequence[Any] | None = None,
    early_stopping: bool = False,
    validation_fraction: float = 0.1,
    n_iter_no_change: float = 10,
    tol: float = 1e-4,
    precision: str = "full",
    n_threads: int | None = None,
    verbose: bool = False,
    history: str = "epoch",
    resume: FitResult | None = None,
) -> FitResult:
    """Train a network in place: its parameters are changed.

    Those of a network that was loaded memory-mapped, and may not be written to, are copied first;
    the file stays as it is.

    Parameters
    ----------
    module : Module
        A network. One that is not built is built for X, in float32 and with `seed`.
    loss : str, Loss or dict
        What is lowered, averaged over samples: as `compile` takes it. For several outputs a dict by
        their names, of losses or of pairs (loss, weight).
    X : array or CSR matrix of shape (n_samples, ...), or dict of these
        Samples; by the names of inputs where there are several, of which an array may also be a
        structured one, with a field for each. For a network that is built here,
        integers are indices where it looks them up, as embeddings do, and numbers elsewhere.
    y : array of shape (n_samples, ...), or dict of these
        Targets of the losses: for those over classes integers, one for each sample and position,
        else numbers of the shape of the output.
    sample_weight : array of shape (n_samples,), default=None
        Not negative, not all zero. None weighs all the same.
    optimizer : str, default="adam"
        An update rule of the table; or "lbfgs", SciPy's L-BFGS-B, which takes all samples in each
        of `max_epochs` iterations and ends where no component of the gradient is above `tol`. It
        has no steps, rates or random masks: what would need them is an error.
    optimizer_params : dict of str to float, default=None
        The rule's numbers by name, other than its defaults.
    learning_rate_init : float, default=0.001
        The rate of every step, above 0, unless there is a schedule.
    schedule : Schedule or ReduceOnPlateau, default=None
        Of `fastbp.optim`. A Schedule is asked for the rate of every step, counted from 0; a
        ReduceOnPlateau for that of every epoch, by the losses so far: those of held-out samples,
        where there are any.
    alpha : float, default=0.0
        Strength of the L2 penalty, at least 0: alpha / 2 times the sum of squared weights (of
        parameters with two axes or more), divided by the sum of the batch's sample weights. Rules
        with a decay of their own, such as "adamw", take it as that (Loshchilov and Hutter 2019).
    rate_factors, decay_factors : dict of str to float, default=None
        Of parameters by their names, or those of parts, in which `*` stands for anything: what
        their rate, and the penalty or decay on them, is multiplied by. Of several patterns for one
        parameter the last counts.
    clip_norm : float, default=None
        Where the norm of the whole gradient, with the penalty's, is larger, it is made as long
        (Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063).
    clip_value : float, default=None
        What each element of the gradient is held to. Not both.
    batch_size : int or "auto", default="auto"
        Samples that run at once. "auto" is the smaller of 200 and all.
    accumulate : int, default=1
        So many batches make a step, with the memory of one of them: the step of a batch as large
        as all of them. The bits are the same as well where a batch is a multiple of 256 samples, no
        layer is so wide that it runs on BLAS, and none couples the samples of a batch, which are
        then those of the small one.
    memory_limit : int, default=None
        Bytes that the engine may take, as `Plan.memory` tells them. Where a batch takes more, a
        step is made of the least number of batches of a multiple of 256 samples, equally large,
        that take no more; the bits are as said of `accumulate`. Where there are none, or layers
        couple the samples of a batch, the network is cut into checkpoints, whose bits are those of
        the network without: parts that run again in backward (see `nn.Checkpoint`); in mixed
        precision, where these would be others, that is an error.
    max_epochs : int, default=10
        All are made, unless `early_stopping` ends them.
    shuffle : bool, default=True
        Whether each epoch has an order of its own.
    seed : int, default=None
        Orders are functions of it and of the epoch, random masks of it and of the step, both of
        which begin at 0 unless training is resumed: a second call with the same seed has the same
        orders and masks again. None is the seed that the network was built with.
    validation_data : (X, y) or (X, y, sample_weight), default=None
        Samples whose loss is noted after each epoch.
    early_stopping : bool, default=False
        Whether to stop where the loss of held-out samples no longer falls, with the parameters of
        the epoch at which it was least. They are `validation_data`, or else a part of X.
    validation_fraction : float, default=0.1
        This part, in [0, 1).
    n_iter_no_change : int, default=10
        With `early_stopping`, the epochs without improvement that are borne.
    tol : float, default=1e-4
        With `early_stopping`, the least fall of the loss that is an improvement.
    precision : {"full", "bf16", "fp16"}, default="full"
        Of a network of float32, for less memory: what training keeps of a whole batch for the
        gradients of parameters (inputs of layers, and gradients by their outputs) is rounded to 16
        bits and stored so, and dense, convolutional and recurrent layers read copies of their
        weights and biases that are rounded, and where they last stored, alike. The parameters
        themselves, what else reads them, the optimiser, sums and all arithmetic stay float32
        (Micikevicius et al. 2018, arXiv:1710.03740). "bf16", bfloat16, has the range of float32 and
        8 significant binary digits. "fp16", float16, has 11, from 2**-24 to 65504: the loss is
        multiplied by a power of two, at first 2**16, and gradients of parameters are divided by it.
        A step with one that is not finite is skipped: nothing changes but the running moments of
        normalisation, and the factor is halved; 2000 good steps in a row double it, up to 2**24
        (all else as `torch.amp.GradScaler`). Skipped steps have their place in schedules and
        histories. What is read where all threads meet, as by normalisation over the batch and in
        networks with checkpoints, is kept in float32. Predictions are float32's.
    n_threads : int, default=None
        None obeys the surroundings; see `MLPClassifier`. Results do not depend on it.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    history : {"epoch", "step"}, default="epoch"
        Whether the loss and the gradient's norm of each step are kept as well.
    resume : FitResult, default=None
        What an earlier call on this network returned, or a copy or a pickle of it: training goes on
        as if it had not ended, from that call's optimiser, epoch, step and seed.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError, TypeError
        An argument is not what it should be; the message names it.
    NonFiniteError
        A loss or a parameter became infinite or NaN, or in "fp16" the gradient, even without a
        factor. The parameters are those of the last whole
        epoch, or of the best one with `early_stopping`.
    RuntimeError
        Another thread is training this network, or building it anew. While it is in training,
        `build`, `reset` and `set_params` of it and its parts are such errors, too.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import fit, nn
    >>> X = np.linspace(-1, 1, 200, dtype=np.float32).reshape(-1, 1)
    >>> network = nn.Sequential(nn.Linear(32), nn.Tanh(), nn.Linear(1))
    >>> result = fit(network, "squared_error", X, X**2, learning_rate_init=0.01, batch_size=20)
    >>> result.history["loss"][-1] < 0.1 * result.history["loss"][0]
    True
    >>> network(X).shape
    (200, 1)
    """
    check_options("fit", locals())
    if not isinstance(module, Module):
        raise TypeError(f"module: found {type(module).__name__}, wanted a Module")
    by_lbfgs = optimizer == "lbfgs"
    if by_lbfgs:
        lbfgs.refuse_steps(
            optimizer_params=(optimizer_params, None),
            schedule=(schedule, None),
            rate_factors=(rate_factors, None),
            decay_factors=(decay_factors, None),
            clip_norm=(clip_norm, None),
            clip_value=(clip_value, None),
            batch_size=(batch_size, "auto"),
            accumulate=(accumulate, 1),
            memory_limit=(memory_limit, None),
            validation_data=(validation_data, None),
            early_stopping=(early_stopping, False),
            resume=(resume, None),
            precision=(precision, "full"),
        )
    rule = rule_of("sgd" if by_lbfgs else optimizer, optimizer_params, alpha)
    rates = rates_of(schedule, float(learning_rate_init), scored=False)
    if module._home is None:
        module._build(_described(X), seed or 0, np.dtype(np.float32), "X")
    home = module._built()
    plan = compile(module, loss, precision=precision)
    if not plan.losses:
        raise ValueError("loss: found none, wanted what training is to lower")
    name = f"{type(module).__name__} network"
    with locking.exclusively(home, name):
        if module._built() is not home:
            raise RuntimeError(f"This {name} was built again by another thread; use a clone.")
        problem = _problem(plan, home.own(), X, y, sample_weight, "")
        if by_lbfgs:
            lbfgs.refuse_what_varies(plan.core)
            problem = problem._replace(alpha=rule.alpha)
            n = threads.resolve(n_threads)
            return _minimised(plan, home, problem, int(max_epochs), float(tol), bool(verbose), n)
        state = _state(resume, home.seed if seed is None else seed, plan)
        held = None
        if validation_data is not None:
            held = _held(plan, home, validation_data)
        elif early_stopping:
            index = hold_out(problem, validation_fraction, state.seed)
            problem, held = divided(problem, *index)
        terms = terms_of(plan)
        settings = Settings(
            loss=tuple(term.identity for term in terms),
            rule=rule.row,
            attributes=rule.attributes,
            batch_size=batch_size_of(batch_size, problem.n_samples),
            shuffle=bool(shuffle),
            rates=rates,
            max_epochs=int(max_epochs),
            limit=None,
            tol=float(tol),
            patience=n_iter_no_change if early_stopping else math.inf,
            verbose=bool(verbose),
            keep_steps=history == "step",
            n_threads=threads.resolve(n_threads),
            accumulate=int(accumulate),
            clip_norm=clip_norm,
            clip_value=clip_value,
            rate_factors=factors_of(rate_factors, plan.parameters, "rate_factors"),
            decay_factors=factors_of(decay_factors, plan.parameters, "decay_factors"),
        )
        settings, plan = within(memory_limit, settings, plan, problem.n_samples)
        problem = problem._replace(plan=plan.core, alpha=rule.alpha)
        validation = None
        if held is not None:
            evaluate = partial(_evaluated, terms, held)
            validation = Validation(held.X, evaluate, scored=False, stops=bool(early_stopping))
        try:
            stochastic.train(problem, settings, state, validation)
        finally:
            home.note_change()
    return result_of(plan, state, state.epoch, state.batches)


def _minimised(
    plan: Plan,
    home: Home,
    problem: Problem,
    max_iterations: int,
    tol: float,
    verbose: bool,
    n_threads: int,
) -> FitResult:
    """Training by L-BFGS."""
    losses: list[float] = []
    state = TrainingState(home.seed, history={"loss": losses})
    try:
        n, _ = lbfgs.minimise(
            problem,
            losses,
            max_iterations=max_iterations,
            tol=tol,
            verbose=verbose,
            n_threads=n_threads,
        )
    finally:
        home.note_change()
    return result_of(plan, state, n, n)


def _described(X: Any) -> Any:
    """What a network is built for: arrays, lists made such."""
    X = by_name(X)
    if isinstance(X, dict):
        return {name: _described(one) for name, one in X.items()}
    return X if hasattr(X, "indptr") else np.asarray(X)


def _problem(plan: Plan, flat: Array, X: Any, y: Any, sample_weight: Any, argument: str) -> Problem:
    """Samples as the engine takes them; `argument` stands before their names in errors."""
    what_x, what_y = f"{argument}X", f"{argument}y"
    samples, targets = plan.samples(X, what_x), plan.targets(y, what_y)
    problem = Problem(plan.core, flat, samples, targets, None, 0.0)
    if problem.n_samples == 0:
        raise ValueError(f"{what_x}: found no samples, wanted at least one")
    for what, names, arrays in ((what_x, plan.inputs, samples), (what_y, plan.losses, targets)):
        for name, one in zip(
            names, arrays if isinstance(arrays, tuple) else (arrays,), strict=True
        ):
            _refuse_what_is_not_finite(one, part(what, name))
    weight = sample_weights(sample_weight, problem.n_samples, flat.dtype)
    return problem._replace(sample_weight=weight)


def _refuse_what_is_not_finite(array: Any, what: str) -> None:
    values = array.data if hasattr(array, "indptr") else array
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: found infinite or NaN values, wanted finite ones")


def _held(plan: Plan, home: Home, given: Sequence[Any]) -> Problem:
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise ValueError(
            f"validation_data: found {type(given).__name__}, wanted (X, y) or (X, y, sample_weight)"
        )
    X, y, weight = (*given, None)[:3]
    return _problem(plan, home.flat, X, y, weight, "validation_data: ")


def _evaluated(
    terms: Sequence[LossTerm], held: Problem, raw: Any, params: Array
) -> tuple[float, float]:
    loss = mean_loss(terms, raw, held.y, held.sample_weight)
    return loss, -loss


def _state(resume: FitResult | None, seed: int, plan: Plan) -> TrainingState:
    if resume is None:
        return TrainingState(seed)
    state = deepcopy(resume._state)  # so that what was returned stays as it is
    if state.vectors is not None and state.vectors.shape[1] != plan.core.n_params:
        raise ValueError(
            f"resume: found the training of {state.vectors.shape[1]} parameters, wanted that of the"
            f" {plan.core.n_params} of this network"
        )
    return state
