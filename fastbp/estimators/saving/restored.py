"""`load`: an estimator made of what `save` has written of one.

Every part is checked against the others as if a stranger had made it: what fits nowhere is refused,
and nothing that the engine or NumPy would trust is passed on unseen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastbp.estimators import losses
from fastbp.estimators.architecture import NORMS, Architecture
from fastbp.estimators.base import BaseTrained
from fastbp.estimators.built import BuiltNetwork
from fastbp.estimators.classifier import Classifying, MLPClassifier
from fastbp.estimators.dense import BaseMLP
from fastbp.estimators.files import Named
from fastbp.estimators.labels import Labels
from fastbp.estimators.multilayer import MultilayerNetwork
from fastbp.estimators.networks import NetworkClassifier, NetworkRegressor
from fastbp.estimators.regressor import MLPRegressor, Scale
from fastbp.estimators.saving import columns, container
from fastbp.estimators.saving.container import Content
from fastbp.estimators.saving.networks import (
    ModuleReader,
    Modules,
    Values,
    read_values,
    set_patterns,
)
from fastbp.estimators.saving.values import Reader, expect, refuse_file
from fastbp.nn.initializers import INITIALIZERS
from fastbp.nn.module import Module
from fastbp.nn.rows import check_attributes, rows
from fastbp.nn.tracing import Input
from fastbp.train.options import check_options
from fastbp.train.state import TrainingState

# Attributes that are described apart, and those that follow from these.
_DESCRIBED = ("_network", "_training_state", "_labels", "_scale", "_columns", "module_")
_FOLLOWING = ("classes_", "n_layers_", "n_outputs_", "n_params_", "out_activation_")
APART = (*_DESCRIBED, *_FOLLOWING)
_OF_FEATURES = ("n_features_in_", "feature_names_in_")

CLASSES: Mapping[str, type[BaseTrained]] = {
    one.__name__: one for one in (MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor)
}
_KINDS = ("binary", "multiclass", "multilabel")


def load(path: Named, *, modules: Iterable[type[Module]] = ()) -> Any:
    """An estimator that `save` has written.

    Nothing in the file is run, and nothing is imported by names in it: what is read is checked as
    if it came from a stranger. A file that was damaged, cut off or made up gives a ValueError.

    Parameters
    ----------
    path : str or path-like
        The file.
    modules : iterable of Module classes, default=()
        Classes of your own that may occur in its network. Their `__init__` and `forward` run with
        parameters from the file.

    Returns
    -------
    estimator : MLPClassifier, MLPRegressor, NetworkClassifier or NetworkRegressor
        Fitted; its predictions are those of the one that was saved, bit for bit, and with
        `warm_start` or `partial_fit` its training goes on as that one's would have.

    Raises
    ------
    ValueError
        The file is not what `save` writes, is of a format that this version does not know, or has
        modules whose classes were not passed.
    OSError
        There is no such file, or it cannot be read.

    Examples
    --------
    >>> import os
    >>> import tempfile
    >>> import numpy as np
    >>> import fastbp
    >>> from fastbp import MLPRegressor
    >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([-2.0, -1.0, 1.0, 2.0])
    >>> model = MLPRegressor(4, "identity", solver="lbfgs", random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     model.save(path)
    ...     loaded = fastbp.load(path)
    >>> bool((loaded.predict(X) == model.predict(X)).all())
    True
    """
    known = known_modules(modules)
    content = container.read(path)
    try:
        return restored(content, known, str(path))
    except Exception as error:  # whatever strange values may lead to
        found = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        at = "" if found.startswith(str(path)) else f"{path}: "
        raise ValueError(f"{at}{found}") from error


def known_modules(modules: Iterable[type[Module]]) -> Modules:
    """Classes by name."""
    known: dict[str, type[Module]] = {}
    for one in modules:
        if not (isinstance(one, type) and issubclass(one, Module)):
            raise TypeError(f"modules: found {one!r}, wanted classes of modules")
        if known.setdefault(one.__qualname__, one) is not one:
            raise ValueError(
                f"modules: found two classes of the name {one.__qualname__!r}, by which files know"
                " them; wanted one"
            )
    return known


def may_be_set(kind: type, name: str) -> bool:
    """Whether it can be a fitted attribute, or what scikit-learn notes of `set_output`."""
    if name == "_sklearn_output_config":
        return True
    fitted = name.isidentifier() and name.endswith("_") and not name.startswith("_")
    return fitted and not hasattr(kind, name) and name not in APART


def restored(content: Content, known: Modules, where: str) -> BaseTrained:
    """The estimator that is described; whatever does not fit together is refused."""
    reader = Reader(content.arrays)
    modules = ModuleReader(reader, known)
    about = expect(dict, content.description, where)
    kind = CLASSES.get(expect(str, about.get("class"), f"{where}: class"))
    if kind is None:
        refuse_file(where, f"the class {about['class']!r:.60}")
    made = kind(**_params(kind, about, reader, where))
    check_options(kind.__name__, vars(made))
    made._loss_attributes()
    made._check()
    network = _network(about, made, reader, modules, where)
    state = {
        **made.__getstate__(),
        **_features(about, network, reader, where),
        **_known_labels(about, made, network, reader, where),
        "_network": network,
        "_training_state": _training(about, network, reader, where),
        "n_outputs_": network.n_outputs,
        "n_params_": network.home.flat.size,
        "out_activation_": rows("loss")[network.loss[0]]["link"],
    }
    for name, one in _fitted(kind, about, reader, where).items():
        state[name] = one
    if isinstance(network, MultilayerNetwork):
        state["n_layers_"] = len(network.sizes)
    else:
        state["module_"] = network.module
    made.__setstate__(state)
    made._plan(sparse=False)
    return made


def _params(
    kind: type[BaseTrained], about: Mapping[str, Any], reader: Reader, where: str
) -> dict[str, Any]:
    given = expect(dict, about.get("params"), f"{where}: params")
    unknown = set(given) - set(kind._get_param_names())
    if unknown:
        refuse_file(where, f"parameters of {kind.__name__} of the names {sorted(unknown)!r:.80}")
    params = {name: reader.decode(one, f"{where}: {name}") for name, one in given.items()}
    for name, value in params.items():
        if isinstance(value, Module) and name != "network":
            refuse_file(where, f"a module for {name!r}")
    return params


def _network(
    about: Mapping[str, Any],
    estimator: BaseTrained,
    reader: Reader,
    modules: ModuleReader,
    where: str,
) -> BuiltNetwork:
    given = expect(dict, about.get("network"), f"{where}: network")
    at = f"{where}: module_"
    loss = _row("loss", given.get("loss"), f"{at}: loss")
    n_outputs = expect(int, given.get("n_outputs"), f"{at}: n_outputs")
    mask_value = reader.decode(given.get("mask_value"), f"{at}: mask_value")
    precision = given.get("precision")
    check_options(
        f"{at} of {type(estimator).__name__}",
        {"mask_value": mask_value, "precision": precision},
    )
    if not isinstance(estimator, BaseMLP):
        module, run = modules.built(given, at)
        inputs: Any = module._built().inputs
        if mask_value is not None and not (isinstance(inputs, dict) and "mask" in inputs):
            refuse_file(at, f"mask_value={mask_value} for a network without a mask")
        return BuiltNetwork(module, loss, mask_value, n_outputs, run, precision)
    values = read_values(reader, given, at)
    network = _multilayer(given, values, loss, at)
    set_patterns(network.module, given, at)
    values.settle_in(network.module, at)
    if (n_outputs, mask_value, precision) != (network.n_outputs, None, "full"):
        refuse_file(at, f"{n_outputs} outputs, mask_value {mask_value}, precision {precision!r}")
    return network


def _multilayer(given: Mapping[str, Any], values: Values, loss: Any, at: str) -> MultilayerNetwork:
    layers = expect(dict, given.get("layers"), f"{at}: layers")
    sizes = tuple(
        expect(int, n, f"{at}: sizes") for n in expect(list, layers.get("sizes"), f"{at}: sizes")
    )
    # Before anything is made that large, or so often.
    if len(sizes) < 2 or min(sizes) < 1 or 2 * (len(sizes) - 1) > len(values.parameters):
        refuse_file(at, f"layers of {sizes!r:.60} units")
    inputs, weight_init = values.inputs, layers.get("weight_init")
    if not isinstance(inputs, Input) or inputs.shape != sizes[:1]:
        refuse_file(at, f"the inputs {inputs!r:.60} of layers of {sizes!r:.60} units")
    if inputs.content not in ("real", "sparse") or weight_init not in [*INITIALIZERS]:
        refuse_file(at, f"inputs that are {inputs.content}, weight_init={weight_init!r:.60}")
    return MultilayerNetwork(
        sizes,
        _architecture(layers, len(sizes) - 1, at),
        loss,
        weight_init,
        values.seed,
        values.flat.dtype,
        sparse=inputs.content == "sparse",
        flat=values.flat,
    )


def _architecture(given: Mapping[str, Any], n_layers: int, at: str) -> Architecture:
    """What follows the linear layers."""
    activations = [
        _row("activation", one, f"{at}: activations")
        for one in expect(list, given.get("activations"), f"{at}: activations")
    ]
    dropout = expect(list, given.get("dropout"), f"{at}: dropout")
    if any(type(p) is not float or not 0 <= p < 1 for p in dropout):
        refuse_file(at, f"dropout={dropout!r:.60}")
    if (len(activations), len(dropout)) != (n_layers, n_layers - 1):
        refuse_file(at, f"{len(activations)} activations for {n_layers} layers")
    norm = expect(str, given.get("norm"), f"{at}: norm")
    if norm not in ("", *NORMS):
        refuse_file(at, f"norm={norm!r:.60}")
    residual = expect(bool, given.get("residual"), f"{at}: residual")
    return Architecture(tuple(activations), tuple(dropout), norm, residual)


def _row(kind: str, given: Any, where: str) -> tuple[str, dict[str, float]]:
    """A row of the table with attributes."""
    match given:
        case [str(name), dict(attributes)] if name in rows(kind):
            row = rows(kind)[name]
            return name, check_attributes(row, attributes, argument=where, user_name=name)
    refuse_file(where, f"{given!r:.80}")


def _fitted(kind: type, about: Mapping[str, Any], reader: Reader, where: str) -> dict[str, Any]:
    """What is written as it is, but for what is of features."""
    found = {}
    for name, one in expect(dict, about.get("fitted"), f"{where}: fitted").items():
        if not may_be_set(kind, name):
            refuse_file(where, f"the attribute {name!r:.60}")
        if name not in _OF_FEATURES:
            found[name] = reader.decode(one, f"{where}: {name}")
    temperature = found.get("temperature_", 1.0)
    if type(temperature) is not float or not 0 < temperature < np.inf:
        refuse_file(where, f"temperature_={temperature!r:.40}")
    return found


def _features(
    about: Mapping[str, Any], network: BuiltNetwork, reader: Reader, where: str
) -> dict[str, Any]:
    """What is known of features, which fit the network."""
    given = expect(dict, about.get("fitted"), f"{where}: fitted")
    found = {
        name: reader.decode(given[name], f"{where}: {name}")
        for name in _OF_FEATURES
        if name in given
    }
    inputs = network.home.inputs
    if isinstance(inputs, dict) and network._mask_value is not None:
        inputs = next(iter(inputs.values()))
    wanted = inputs.shape[0] if isinstance(inputs, Input) else None
    if about.get("columns") is not None:
        given = expect(dict, about["columns"], f"{where}: columns")
        found["_columns"], n_numbers = columns.restored(reader, given, where)
        if not isinstance(inputs, Input) or inputs.shape != (n_numbers,):
            refuse_file(where, f"columns of {n_numbers} numbers for {inputs!r:.60}")
        wanted = len(found["_columns"].categorical) + len(found["_columns"].numeric)
    n_features, names = found.get("n_features_in_"), found.get("feature_names_in_")
    if n_features != wanted or type(n_features) is bool:
        refuse_file(where, f"n_features_in_={n_features!r:.40} for {wanted}")
    if names is not None and not (
        isinstance(names, np.ndarray)
        and names.shape == (wanted,)
        and all(type(one) is str for one in names)
    ):
        refuse_file(where, f"feature_names_in_ {names!r:.60} of {wanted} features")
    return found


def _restored_scale(
    about: Mapping[str, Any], network: BuiltNetwork, reader: Reader, where: str
) -> Scale | None:
    """What targets were scaled by."""
    match reader.decode(about.get("scale"), f"{where}: scale"):
        case None:
            return None
        case [np.ndarray() as mean, np.ndarray() as spread] if all(
            one.shape == (network.n_outputs,) and one.dtype == np.float64 for one in (mean, spread)
        ):
            if np.isfinite(mean).all() and np.isfinite(spread).all() and (spread > 0).all():
                return Scale(mean, spread)
    refuse_file(where, "the scale of other targets")


def _known_labels(
    about: Mapping[str, Any],
    estimator: BaseTrained,
    network: BuiltNetwork,
    reader: Reader,
    where: str,
) -> dict[str, Any]:
    given, at = about.get("labels"), f"{where}: classes_"
    name = network.loss[0]
    if not isinstance(estimator, Classifying):
        if given is not None or name not in losses.REGRESSION:
            refuse_file(where, f"labels, or the loss {name!r}, for a regressor")
        return {"_scale": _restored_scale(about, network, reader, where)}
    if about.get("scale") is not None:
        refuse_file(where, "a scale of targets for a classifier")
    match reader.decode(given, at):
        case [str(kind), np.ndarray() as classes, bool(sparse)] if kind in _KINDS:
            labels = Labels(kind, classes, sparse)
        case _:
            refuse_file(at, f"{given!r:.80}")
    few = classes.size <= 2 and kind == "binary"
    if (
        classes.ndim != 1
        or not (few or kind == "multilabel" or (classes.size > 2 and kind == "multiclass"))
        or classes.size < 1
        or labels.n_outputs != network.n_outputs
        or (kind == "multilabel" and classes.tolist() != [*range(classes.size)])
        or (rows("loss")[name]["target"] == "class") > (kind == "multiclass")
        or not any(name in pair for pair in losses.CLASSIFICATION.values())
    ):
        refuse_file(at, f"{classes!r:.60} of kind {kind!r} for {network.n_outputs} outputs")
    return {"_labels": labels, "classes_": classes}


def _training(
    about: Mapping[str, Any], network: BuiltNetwork, reader: Reader, where: str
) -> TrainingState:
    """The state of training, of which the engine is to take numbers and arrays."""
    given, at = expect(dict, about.get("training"), f"{where}: training"), f"{where}: training"
    names = {one.name for one in dataclasses.fields(TrainingState)}
    if not set(given) <= names:
        refuse_file(at, f"the fields {sorted(set(given) - names)!r:.60}")
    state = TrainingState(
        **{name: reader.decode(one, f"{at}.{name}") for name, one in given.items()}
    )
    counts = (state.epoch, state.samples, state.batches, state.step, state.stale)
    if any(type(n) is not int or not 0 <= n < 2**53 for n in counts):
        refuse_file(at, f"the counts {counts!r:.80}")
    match state.scaling:
        case (int(doubled), int(good), int(skipped)) if 0 <= doubled <= 127:
            fits = 0 <= min(good, skipped) <= max(good, skipped) < 2**31
        case _:
            fits = False
    fits = fits and type(state.seed) is int and 0 <= state.seed < 2**64
    fits = fits and type(state.rate) is float and type(state.best) is float
    fits = fits and type(state.monitored) is tuple and type(state.rate_origin) is tuple
    fits = fits and type(state.shown) is bytes and (state.rule == "" or state.rule in rows("rule"))
    fits = fits and isinstance(state.history, dict)
    fits = fits and all(
        type(name) is str and type(found) is list and all(type(x) is float for x in found)
        for name, found in state.history.items()
    )
    if not fits:
        refuse_file(at, f"{given!r:.120}")
    n_params, dtype = network.home.flat.size, network.dtype
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {"last": (state.last, (n_params,))}
    if state.vectors is not None:
        n_states = rows("rule")[state.rule]["n_states"] if state.rule else 0
        shapes["vectors"] = (state.vectors, (n_states, n_params))
    for name, (array, shape) in shapes.items():
        if array is not None and not (
            isinstance(array, np.ndarray)
            and (array.shape, array.dtype) == (shape, dtype)
            and np.isfinite(array).all()
        ):
            refuse_file(at, f"{name} that is no finite {dtype} of shape {shape}")
    return state
