"""`save`: what there is of a fitted estimator, as values and arrays.

An attribute that is neither a value nor known here stops it, so that none is lost in silence; what
was written is read once before there is a file. What follows from other parts (`classes_`,
`coefs_`, `out_activation_`) is not written. The form is that which `restored` reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sklearn.utils.validation import check_is_fitted

from fastbp.estimators import versions
from fastbp.estimators.base import BaseTrained
from fastbp.estimators.built import BuiltNetwork
from fastbp.estimators.files import Named
from fastbp.estimators.multilayer import MultilayerNetwork
from fastbp.estimators.saving import columns, container
from fastbp.estimators.saving.container import Content
from fastbp.estimators.saving.networks import ModuleWriter, patterns, same_graph, written_values
from fastbp.estimators.saving.restored import (
    APART,
    CLASSES,
    known_modules,
    may_be_set,
    restored,
)
from fastbp.estimators.saving.values import Writer, refuse
from fastbp.nn import locking
from fastbp.nn.runs import Tracing
from fastbp.nn.tracing import Graph
from fastbp.train.state import TrainingState


def save(estimator: BaseTrained, path: Named) -> None:
    """`BaseTrained.save`."""
    check_is_fitted(estimator)
    kind = type(estimator)
    if kind not in CLASSES.values():
        raise ValueError(
            f"save: found a {kind.__qualname__}, wanted one of {', '.join(CLASSES)} itself: a"
            " class of your own is for pickle, joblib or skops."
        )
    writer = Writer()
    modules = ModuleWriter(writer)
    with locking.swapping:
        state = versions.checked(estimator.__getstate__(), kind.__name__)
        description = _record(kind, state, writer, modules)
        # Copies: training in place may go on meanwhile.
        arrays = {name: one.copy() for name, one in writer.arrays.items()}
    content = Content(description, arrays)
    copy = restored(content, known_modules(modules.met), "save")
    if not same_graph(*(_graph(one) for one in (state["_network"], copy._network))):
        raise ValueError(
            "save: found a network (module_) that computes something else than what its modules'"
            " parameters (get_params) describe; pickle, joblib and skops keep it as it is."
        )
    container.write(path, content)


def _graph(network: BuiltNetwork) -> Graph:
    run = Tracing(network.module, network.dtype, building=False)
    run.trace(network.home.inputs)
    return run.graph


def _record(
    kind: type[BaseTrained], state: Mapping[str, Any], writer: Writer, modules: ModuleWriter
) -> dict[str, Any]:
    params = {name: writer.encode(state[name], name) for name in kind._get_param_names()}
    fitted = {}
    for name, value in state.items():
        if name in params or name in APART:
            continue
        if not may_be_set(kind, name):
            refuse(name, f"{type(value).__name__}, which is no fitted attribute")
        fitted[name] = writer.encode(value, name)
    labels, training = state.get("_labels"), state["_training_state"]
    scale, learnt = state.get("_scale"), state.get("_columns")
    return {
        "class": kind.__name__,
        "params": params,
        "fitted": fitted,
        "labels": None if labels is None else writer.encode([*labels], "classes_"),
        "scale": None if scale is None else writer.encode([*scale], "_scale"),
        "columns": None if learnt is None else columns.described(writer, learnt),
        "network": _described(state["_network"], writer, modules),
        "training": {
            one.name: writer.encode(getattr(training, one.name), f"_training_state.{one.name}")
            for one in dataclasses.fields(TrainingState)
        },
    }


def _described(network: BuiltNetwork, writer: Writer, modules: ModuleWriter) -> dict[str, Any]:
    name, attributes = network.loss
    about = {
        "loss": [name, {**attributes}],
        "n_outputs": network.n_outputs,
        "mask_value": None if network._mask_value is None else float(network._mask_value),
        "precision": network.precision,
        **written_values(writer, network.module, "module_"),
    }
    if isinstance(network, MultilayerNetwork):
        built = network.architecture
        about["layers"] = {
            "sizes": [*network.sizes],
            "activations": [[name, {**given}] for name, given in built.activations],
            "dropout": [*built.dropout],
            "norm": built.norm,
            "residual": built.residual,
            "weight_init": network.weight_init,
        }
        about["freezing"] = patterns(network.module)
        return about
    return {**about, **modules.described(network.module, "module_")}
