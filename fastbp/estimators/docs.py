"""What the docstrings of the estimators have in common, written once.

`documented` puts it in the place of marks in the docstrings of the classes and of their methods. It
refuses to hold what belongs to one estimator only; examples stay where they are run. It is as long
as it is because every parameter has its words here, and no formula or branch.
"""

import inspect
import re
import textwrap
from collections.abc import Iterable
from typing import TypeVar

from fastbp.nn.rows import rows

THREADS = """\
Any number of threads may call `predict` and the other reading methods of one estimator at once. A
second training call while one runs is a RuntimeError. Meanwhile `fit` from new weights leaves
readers the old model until the new one is complete; a warm start and `partial_fit` train in place,
so that readers see weights in the middle of training, in which some may be an update ahead of
others. Predict from a copy (``copy.deepcopy``, or a pickle, made before) where that matters.
"""

PARAMETERS = """\
hidden_layer_sizes : int, sequence of int or ndarray of shape (n_hidden,), default=(100,)
    Units of each hidden layer, at least 1; an empty tuple gives a linear model.

activation : str, or list or tuple of str, default='relu'
    Activation of the hidden layers, or one for each of them:
{activations}.

solver : {{'sgd', 'adam', 'adamw', 'lbfgs'}}, default='adam'
    What minimises the loss.

    - 'sgd': stochastic gradient descent, with (Nesterov's) momentum where `momentum` is above 0.
    - 'adam': Kingma and Ba (2015), in scikit-learn's form.
    - 'adamw': Loshchilov and Hutter (2019), as in PyTorch. `alpha` is then its decoupled decay of
      all parameters by ``learning_rate_init * alpha`` a step, and the loss has no penalty.
    - 'lbfgs': SciPy's L-BFGS-B on all samples at once; good for small data. Each call of `fit`
      starts with an empty memory of gradients, at a warm start as well: continuation is exact for
      the other solvers only.

alpha : float, default=0.0001
    Strength of the L2 penalty, at least 0. As in scikit-learn, ``alpha / 2`` times the sum of
    squared weights (biases excluded) is divided by the sum of the batch's sample weights (their
    number, where none are given) and added to the loss: a smaller batch is penalised more.

batch_size : int or 'auto', default='auto'
    Samples a step, at least 1. 'auto' is the smaller of 200 and the number of samples. Not used by
    'lbfgs'.

learning_rate : {{'constant', 'invscaling', 'adaptive'}}, default='constant'
    Schedule of the rate of 'sgd'; other solvers keep `learning_rate_init`. 'invscaling' divides it
    by ``(t_ + 1) ** power_t`` before each epoch; 'adaptive' divides the rate by 5 each time that
    training would otherwise stop, until it is 1e-6.

learning_rate_init : float, default=0.001
    The (first) learning rate, above 0. Not used by 'lbfgs'.

power_t : float, default=0.5
    Exponent of 'invscaling', at least 0.

max_iter : int, default=200
    The most epochs, or iterations of 'lbfgs', of one call.

shuffle : bool, default=True
    Whether each epoch has an order of samples of its own, which is a function of the seed and of
    the number of epochs made before. With False and samples sorted by class there is a warning.

random_state : int, RandomState or None, default=None
    Seed of the starting weights, the orders of samples and the validation split. An int is itself
    the seed; otherwise 64 bits are drawn at the first fit and kept for warm starts and
    `partial_fit`. The generator is fastbp's own: the same seed gives other numbers than in
    scikit-learn.

tol : float, default=1e-4
    An epoch counts as an improvement if the loss falls (or the validation score rises) by more than
    this. For 'lbfgs', the largest gradient component at a minimum.

verbose : bool or int, default=False
    Whether to print the loss after each epoch.

warm_start : bool, default=False
    Whether `fit` goes on from where the last call ended. The estimator then keeps the state of
    training (last weights, optimiser, counters, rate, best so far, seed), which is pickled with it:
    two calls of `fit` with three epochs each give the bits of one with six.

momentum : float, default=0.9
    Momentum of 'sgd', in [0, 1].

nesterovs_momentum : bool, default=True
    Whether momentum is Nesterov's.

early_stopping : bool, default=False
    Whether to stop when the score on samples held out, rather than the training loss, no longer
    improves: `X_val` of `fit`, what `validation_cv` says, or `validation_fraction` of the samples.
    The model is then that of the best epoch, also after Ctrl-C; a warm start goes on from the last.
    Without it, no share is held out, and samples of the other two are scored only. Not for
    `partial_fit`. Not for 'lbfgs'.

validation_fraction : float, default=0.1
    The share of samples that `early_stopping` holds out, in [0, 1). Where another way to say it is
    taken, it stays at its default.

beta_1 : float, default=0.9
    Decay of the running mean of gradients for 'adam' and 'adamw', in [0, 1).

beta_2 : float, default=0.999
    Decay of the running mean of their squares, likewise.

epsilon : float, default=1e-8
    Added to the denominator of 'adam' and 'adamw', above 0.

n_iter_no_change : int, default=10
    Epochs without improvement that are borne before training stops; numpy.inf bears all.

max_fun : int, default=15000
    The most evaluations of the loss by 'lbfgs'.

activation_params : dict, list or tuple of dict or None, or None, default=None
    Numbers that the activation takes, by name, or a dict or None for each hidden layer; one dict is
    for all of them. None, since every number has a usual value:
{activation_params}.

weight_init : str, default='glorot_uniform'
    How weights start. 'glorot_uniform' draws weights and biases as scikit-learn does, with its
    narrower bound for 'logistic'. 'glorot_normal' (for tanh and logistic), 'he_uniform' and
    'he_normal' (for relu and its kin), 'lecun_uniform' and 'lecun_normal' (for selu) start biases
    at zero. The default has models start, and so end, as scikit-learn's do.

n_threads : int or None, default=None
    Threads of the engine, at least 1. None obeys joblib's and threadpoolctl's limits,
    `OMP_NUM_THREADS`, the CPU affinity and the cgroup quota; it is the default because nobody
    but they know what else the machine has to do. Results do not depend on it. In a forked process
    None means one thread, with a warning, and more are an error.

dtype : {{'float32', 'float64'}} or None, default=None
    Of the weights and of all arithmetic. None takes float32 for float32 features, else float64, so
    that features are not copied and no digits are lost.

history : {{'epoch', 'step'}}, default='epoch'
    Whether `history_` has the loss and the gradient's norm of every step as well. Steps are not
    kept by default because their number, unlike that of epochs, grows with the data.

validation_cv : splitter, pair of index arrays or None, default=None
    Which samples are held out: a splitter of scikit-learn, as `GroupKFold` or `TimeSeriesSplit`,
    the first split of which counts (`groups` is passed to `fit`); or the indices of those to train
    on and of those held out. Not beside `X_val`. Not for 'lbfgs'.

scoring : str, callable or None, default=None
    What samples held out are scored by after each epoch; more is better. None is the estimator's
    `score`: accuracy, or R^2. 'loss' is minus their loss, which is finer than accuracy; otherwise
    the name of a scorer of scikit-learn, or a callable ``(estimator, X, y)``, with
    ``sample_weight`` as well where samples have weights.

max_seconds : float or None, default=None
    A budget of time, above 0: training stops after the epoch in which it is used up; the first is
    always made. Results then depend on the machine. None is no limit. Not for 'lbfgs'.

standardize : bool, default=False
    Whether columns of numbers are scaled to mean 0 and variance 1, as a network wants them, by what
    `fit` (or the first `partial_fit`) has seen; and the targets of a regressor likewise, but for
    'poisson'. Losses are then those of scaled targets, predictions are not scaled.

allow_nan : bool, default=False
    Whether columns of numbers may have holes (NaN, None). These are filled with the column's mean,
    and columns that had some in `fit` have a further one that says where.

categorical_features : 'from_dtype', array-like of bool, int or str, or None, default=None
    Which columns are categories: those of a frame that hold categories, words or truth values; or a
    mask, indices or names. Each category, and what is missing, becomes a column of 0 and 1; beyond
    255 of a column the rarest are one. Those unknown to `fit` are of that, or none.

dropout : float, or list or tuple of float, default=0.0
    The probability, in [0, 1), with which each output of a hidden layer is zero in training (the
    others are then 1 / (1 - p) as large), or one for each hidden layer; after the activation.
    Srivastava et al. 2014, JMLR 15. A sample of weight 2 then trains otherwise than two samples,
    which have two masks. Not for 'lbfgs'.

batch_norm : bool, default=False
    Whether the sums of each hidden layer are normalised over the batch before the activation, as by
    `nn.BatchNorm1d`, by its samples whatever their weights. Not for 'lbfgs'.

layer_norm : bool, default=False
    Whether they are normalised over the units of each sample instead, as by `nn.LayerNorm`.

residual : bool, default=False
    Whether a hidden layer as wide as the hidden layer before it is added to that one's output: x +
    dropout(activation(norm(x W + b))). Others, and always the first and the last layer, are not;
    it is an error if all are others. He et al. 2016, arXiv:1512.03385.

clip_norm : float or None, default=None
    Where the norm of the whole gradient, with the penalty's, is larger, it is made as long
    (Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063); above 0. Not for 'lbfgs'.

clip_value : float or None, default=None
    What each element of the gradient is held to, above 0. Not both. Not for 'lbfgs'.

schedule : Schedule, ReduceOnPlateau or None, default=None
    Of `fastbp.optim`, in place of `learning_rate_init`, for every solver but 'lbfgs', and beside
    ``learning_rate='constant'`` only. A Schedule is asked for the rate of every step, counted over
    all calls that go on; a ReduceOnPlateau for that of every epoch, by the training losses so far.
    With `early_stopping` it follows the validation loss, or in its mode "max" the score.

weight_decay : float or None, default=None
    Decoupled decay of all parameters, by ``rate * weight_decay`` a step, at least 0, for 'adamw',
    where it takes the place of `alpha` (which is then to be at its default, 0 or the same). None
    leaves it to `alpha`. Other solvers have no such decay.
"""

NETWORK = """\
network : Module, callable or None, default=None
    What is trained. A Module is a description, or has values to start from, as for fine-tuning; it
    is never changed: each `fit` trains a copy, `module_`. Its parameters can be searched as
    ``network__...``. A callable is called with the sizes of inputs (the number of features, the
    shape of a sample with several axes, or a dict of shapes by name) and the number of outputs,
    and returns a Module. None is a hidden layer of 100 relu units.
"""

NETWORK_TRAINING = """\
optimizer : str, default='adam'
    The update rule, by which weights follow gradients:
{rules};
    or 'lbfgs', SciPy's L-BFGS-B on all samples at once, for small data. It has no steps: what
    belongs to them, `batch_size` and all that is said of rates and gradients, has to be at its
    default, and random masks or batch normalisation are an error. A warm start begins at the
    weights that there are, with an empty memory of gradients.

optimizer_params : dict or None, default=None
    Numbers that the rule takes, by name; None leaves every number at its default.

learning_rate_init : float, default=0.001
    The rate of every step, above 0, unless there is a `schedule`.

schedule : Schedule, ReduceOnPlateau or None, default=None
    Of `fastbp.optim`. A Schedule is asked for the rate of every step, counted over all calls that
    go on; a ReduceOnPlateau for that of every epoch, by the training losses so far. With
    `early_stopping` it follows the validation loss, or in its mode "max" the score.

alpha : float, default=0.0001
    Strength of the L2 penalty, at least 0: ``alpha / 2`` times the sum of squared weights (biases
    excluded), divided by the sum of the batch's sample weights. Rules with a decay of their own,
    such as 'adamw', take it as that.

rate_factors : dict of str to float or None, default=None
    Of parameters by their names, or those of parts, in which ``*`` stands for anything: what their
    rate is multiplied by, at least 0. Of several patterns for one parameter the last counts.

decay_factors : dict of str to float or None, default=None
    What the penalty or decay on them is multiplied by, likewise.

clip_norm : float or None, default=None
    Where the norm of the whole gradient, with the penalty's, is larger, it is made as long
    (Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063); above 0.

clip_value : float or None, default=None
    What each element of the gradient is held to, above 0. Not both.

<batch_size>

accumulate : int, default=1
    So many batches make a step, with the memory of one of them: the step of a batch as large as all
    of them; see `fastbp.fit`. At most the batches of an epoch.

memory_limit : int or None, default=None
    Bytes that the engine may take in training, beside the data. Where a batch takes more, a step is
    made of as many smaller ones as keep to it, or the network is cut into parts that run again in
    backward; see `fastbp.fit`.

max_epochs : int, default=200
    The most epochs, or iterations of 'lbfgs', of one call.

<shuffle>

<random_state>

tol : float, default=1e-4
    An epoch counts as an improvement if the loss falls (or the validation score rises) by more than
    this. For 'lbfgs', the largest gradient component at a minimum.

<n_iter_no_change>

<early_stopping>

<validation_fraction>

<warm_start>

mask_value : float or None, default=None
    What fills short samples up: X is then (n_samples, length, ...), and the network has a further
    input `mask` (n_samples, length), which is 0 at positions that hold nothing but this value, and
    1 elsewhere.

precision : {{'full', 'bf16', 'fp16'}}, default='full'
    What training stores of a batch: numbers of `dtype`, or of 16 bits, for less memory; see
    `fastbp.fit`. Predictions do not depend on it.

<verbose>

<n_threads>

dtype : {{'float32', 'float64'}} or None, default=None
    Of the weights and of all arithmetic. None takes that of a network that has values; else float64
    where X has it, so that no digits are lost, and float32 where it does not, or where `precision`
    is not 'full'.

<history>

<validation_cv>

<scoring>

<max_seconds>

<standardize>

<allow_nan>

<categorical_features>
"""

NETWORK_ATTRIBUTES = """\
module_ : Module
    The network that was trained, built. Its parameters may be edited; that takes effect at the next
    call. What is built of it and other parts is built of a `copy.deepcopy`.

skipped_steps_ : int
    Steps so far that changed no weights, since with ``precision='fp16'`` a gradient was not finite.

<loss_>

<loss_curve_>

<best_loss_>

<validation_scores_>

<best_validation_score_>

<history_>

<n_iter_>

<t_>

n_params_ : int
    Number of all values of parameters.

<n_outputs_>

<out_activation_>

n_features_in_ : int
    Number of features; of samples with several axes, the length of the first. Not for a dict.

<feature_names_in_>
"""

ATTRIBUTES = """\
coefs_ : list of ndarray of shape (n_in, n_out)
    Weights of each layer: writable views of one flat buffer. Editing them in place, or putting
    arrays of the same shapes in their place, takes effect at the next call; a wrong shape is an
    error there. Training goes on from edited weights with the state of the optimiser as it was.

intercepts_ : list of ndarray of shape (n_out,)
    Biases of each layer; see `coefs_`.

loss_ : float
    The loss of the last epoch, with the penalty; NaN if no epoch was whole.

loss_curve_ : list of float
    The loss of each epoch since training began. Not for 'lbfgs'.

best_loss_ : float or None
    The smallest of them; None with `early_stopping`. Not for 'lbfgs'.

validation_scores_ : list of float or None
    The score on samples held out after each epoch, where there are some; NaN for one whose scoring
    was interrupted. Not for 'lbfgs'.

best_validation_score_ : float or None
    With `early_stopping`, the largest of them. Not for 'lbfgs'.

history_ : dict of str to ndarray
    Of each epoch since training began: "loss", with the penalty; "learning_rate"; "gradient_norm",
    the L2 norm of the gradient of its last step, before it is clipped; "seconds" that it took; of
    samples held out "validation_loss", without the penalty, and "validation_score". With
    ``history='step'`` of each step "step_loss" and "step_gradient_norm". For 'lbfgs', "loss" after
    each iteration.

n_iter_ : int
    Epochs of the last call. For 'lbfgs', its iterations.

t_ : int
    Training samples seen since training began. For 'lbfgs', 0.

n_params_ : int
    Number of weights and biases, with what norms have of their own.

n_layers_ : int
    Number of layers, inputs and outputs included.

module_ : Module
    The network that was trained, a `Sequential`, whose parameters are `coefs_` and `intercepts_`,
    and those of norms: to look at, and, as a `copy.deepcopy` of it, to build on.

n_outputs_ : int
    Number of outputs.

out_activation_ : str
    What makes a prediction of the last layer's output; it comes with the loss.

n_features_in_ : int
    Number of features.

feature_names_in_ : ndarray of shape (n_features_in_,)
    Names of the features; only if all are strings.
"""

CLASS_WEIGHT = """\
class_weight : dict, 'balanced' or None, default=None
    What a sample of each class weighs in the loss, times its `sample_weight`: a dict by label, of
    those that are not in it 1 (for multilabel targets by column, of samples that have the label);
    'balanced' weighs classes so that all have the same sum, and is not for `partial_fit`. `X_val`
    is not weighed by it.
"""

CALIBRATION = """\
calibration : {'temperature'} or None, default=None
    Whether probabilities are calibrated on the samples held out (`X_val`, `validation_cv`,
    `early_stopping`), which it then wants: 'temperature' divides the raw outputs by the number that
    gives these samples the largest likelihood (Guo et al. 2017, arXiv:1706.04599), `temperature_`.
    Predictions stay the same. Not for `partial_fit`. Not for 'lbfgs'.
"""

FEATURES = """\
X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
    The features, in the form that `fit` was given them.
"""

PREDICTION_ERRORS = """\
NotFittedError
    Before `fit` or `partial_fit`.
ValueError
    X has another number of features than those of training, or is not finite.
"""

ORDER = """\
The order of samples is a function of the seed and of the number of epochs made so far: calls do
not repeat it.
"""

ONE_EPOCH_ERRORS = """\
ValueError
    A parameter or an array is not what it should be; the message names it.
NonFiniteError
    A loss or weight became infinite or NaN. The weights stay those before the call.
RuntimeError
    Another thread is training this estimator.
AttributeError
    The solver or optimizer is 'lbfgs', which has no epochs.
"""

_Documented = TypeVar("_Documented")


def _with_entries(text: str, *sources: str) -> str:
    """Put entries of other lists, told apart by their names, in the place of their marks."""
    for source in sources:
        for entry in re.split(r"\n\n(?=\w)", source.rstrip()):
            text = text.replace(f"<{entry.split(' :')[0]}>", entry)
    return text


def _listed(words: Iterable[str]) -> str:
    return textwrap.fill(", ".join(words), 96, initial_indent="    ", subsequent_indent="    ")


def _names(kind: str) -> str:
    return _listed(f"'{name}'" for name in rows(kind))


def _numbers(kind: str) -> str:
    """The attributes of a kind of row, as "alpha of 'elu' (default 1)" and so on."""
    return _listed(
        f"{attr['name']} of '{name}' (default {attr['default']:g})"
        for name, row in rows(kind).items()
        for attr in row["attrs"]
    )


_FILLED = {
    "activations": _names("activation"),
    "activation_params": _numbers("activation"),
}

SHARED = {
    "threads": THREADS,
    "parameters": PARAMETERS.format(**_FILLED),
    "network": NETWORK,
    "network's training": _with_entries(
        NETWORK_TRAINING.format(rules=_names("rule")), PARAMETERS.format(**_FILLED)
    ),
    "network's attributes": _with_entries(NETWORK_ATTRIBUTES, ATTRIBUTES),
    "attributes": ATTRIBUTES,
    "class weights": CLASS_WEIGHT,
    "calibration": CALIBRATION,
    "features": FEATURES,
    "errors of prediction": PREDICTION_ERRORS,
    "order of samples": ORDER,
    "errors of one epoch": ONE_EPOCH_ERRORS,
}
"""What stands for a line "<shared ...>" of a docstring, by the words of that line."""


def documented(what: _Documented) -> _Documented:
    """Complete the docstring of a class or a function."""
    if what.__doc__ is not None:  # python -OO has none
        text = inspect.cleandoc(what.__doc__) + "\n"
        for mark, shared in SHARED.items():
            text = text.replace(f"<shared {mark}>\n", shared)
        what.__doc__ = text.rstrip()
    return what
