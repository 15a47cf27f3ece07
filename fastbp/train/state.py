"""What training carries from one call to the next, and what each call is told.

`TrainingState` is all that makes a later epoch equal to the one that an uninterrupted run would
have made. It holds no data and no plan, and it pickles.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from sklearn.utils import check_random_state

from fastbp import _core
from fastbp.nn.parameter import Array

if TYPE_CHECKING:
    from fastbp.train.rates import Rates


class Problem(NamedTuple):
    """Samples as the engine takes them, with the plan and the weights that they go with.

    `X` is (n, ...), dense or CSR; `y` is int32 (n, ...) for losses over classes, else (n, ...) of
    the weights' dtype; each is a tuple of such arrays where the plan has several inputs or losses.
    `sample_weight` is (n,) or None; `alpha` is the penalty of the loss.
    """

    plan: _core.Plan
    params: Array
    X: Any
    y: Array
    sample_weight: Array | None
    alpha: float

    @property
    def n_samples(self) -> int:
        """How many samples there are."""
        first = self.X[0] if isinstance(self.X, tuple) else self.X
        return int(first.shape[0])


def taken(arrays: Any, index: Array) -> Any:
    """Samples of an array, or of each array of a tuple."""
    if isinstance(arrays, tuple):
        return tuple(one[index] for one in arrays)
    return arrays[index]


class Validation(NamedTuple):
    """Samples held out.

    `evaluate` makes of the raw outputs for `X`, and of the weights that they come from, their loss,
    without the penalty, and their score, of which a higher one is better; where there is none (not
    `scored`), minus the loss. With `stops`,
    training ends where the score no longer improves, and the weights are those of the best epoch.
    Targets and weights are there for who asks for more than a score.
    """

    X: Any
    evaluate: Callable[[Any, Array], tuple[float, float]]
    scored: bool
    stops: bool
    y: Any = None
    sample_weight: Array | None = None


class Onlooker(Protocol):
    """Whoever is told of each epoch, with the weights that it begins and ends at."""

    def begin(self, params: Array) -> None:
        """Before an epoch."""

    def end(self, params: Array) -> bool:
        """After an epoch; whether training is to stop."""


@dataclass(frozen=True)
class Settings:
    """The choices of one call of stochastic training, already validated.

    `loss` says what is minimised: where that changes, the best loss so far counts no more.
    `batch_size` samples run at once, and `accumulate` times as many make a step. The two lists of
    factors are of the plan's parameters.

    With `max_seconds`, training stops after the epoch in which so many have passed.

    `patience` is scikit-learn's n_iter_no_change, `limit` the name of the parameter that
    `max_epochs` comes from: after so many epochs without convergence there is a warning, unless
    it is None.
    """

    loss: tuple[Any, ...]
    rule: str
    attributes: Mapping[str, float]
    batch_size: int
    shuffle: bool
    rates: "Rates"
    max_epochs: int
    limit: str | None
    tol: float
    patience: float
    verbose: bool
    keep_steps: bool
    n_threads: int
    accumulate: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    rate_factors: tuple[float, ...] | None = None
    decay_factors: tuple[float, ...] | None = None
    max_seconds: float | None = None


@dataclass
class TrainingState:
    """The state of training between calls.

    Attributes
    ----------
    seed : int
        Of everything random; 64 bits, drawn once.
    epoch : int
        Epochs made so far: the number of the next permutation.
    samples : int
        Training samples seen so far, which "invscaling" rates depend on.
    batches : int
        Batches of the epochs so far, which schedules depend on.
    step : int
        Updates made since the optimiser's vectors were zero.
    scaling : tuple of int
        In float16, how often the loss is doubled for the sake of its gradients, the good steps in
        a row with that, and the steps that were skipped.
    rule : str
        The update rule that the vectors belong to.
    vectors : ndarray of shape (n_states, n_params) or None
        The optimiser's flat vectors; None where they have to start from zero.
    rate : float
        The rate that an "adaptive" schedule has come down to.
    rate_origin : tuple
        What `rate` came from; another origin restarts it.
    monitored : tuple
        What `best` was measured on; `best` and `stale` restart where this changes.
    best : float
        The lowest loss, or with early stopping the highest score.
    stale : int
        Epochs in a row without improvement.
    last : ndarray of shape (n_params,) or None
        With early stopping, the weights after the last epoch: what is shown are the best.
    shown : bytes
        A digest of the weights that were shown when `last` was kept, to see whether they were
        edited.
    history : dict of str to list of float
        One value an epoch ("loss", "learning_rate", with early stopping "validation_loss" and
        "validation_score"), and one a step ("step_loss") where asked for.
    """

    seed: int
    epoch: int = 0
    samples: int = 0
    batches: int = 0
    step: int = 0
    scaling: tuple[int, int, int] = _core.FIRST_SCALING
    rule: str = ""
    vectors: Array | None = None
    rate: float = 0.0
    rate_origin: tuple[Any, ...] = ()
    monitored: tuple[Any, ...] = ()
    best: float = np.inf
    stale: int = 0
    last: Array | None = None
    shown: bytes = b""
    history: dict[str, list[float]] = field(default_factory=dict)

    def drop_vectors(self) -> None:
        """Let the optimiser start from zero in the next call."""
        self.vectors = None
        self.step = 0

    def drop_arrays(self) -> None:
        """Keep only the counters, which are small: for an estimator that is not to be continued."""
        self.drop_vectors()
        self.last = None


def draw_seed(random_state: Any) -> int:
    """The 64-bit seed that scikit-learn's `random_state` stands for.

    An int is itself the seed; None and a RandomState yield a number drawn from them.
    """
    if random_state is None or isinstance(random_state, np.random.RandomState):
        return int.from_bytes(check_random_state(random_state).bytes(8), "little")
    return int(random_state)


def split_seed(seed: int) -> int:
    """The 32-bit seed of the validation split, since scikit-learn's splitters take no more."""
    return (seed ^ (seed >> 32)) & 0xFFFFFFFF


def digest(flat: Array) -> bytes:
    """A fingerprint of weights."""
    return hashlib.blake2b(flat.data).digest()
