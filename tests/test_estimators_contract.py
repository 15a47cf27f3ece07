"""The estimators as members of scikit-learn: its own checks, model selection, representations, and
what the docstrings and the package's names promise."""

import ast
import doctest
import inspect
import re

import pandas as pd
from helpers import IRIS, fitted, over_estimators, short_training
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.nn.rows import rows

pytestmark = short_training

X, Y = IRIS


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_model_selection():
    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier(8, learning_rate_init=0.02, random_state=0)
    )
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.8
    search = GridSearchCV(MLPRegressor(4, max_iter=5), {"alpha": [0.1, 1.0]}, cv=2, n_jobs=2)
    assert search.fit(X, Y).best_params_["alpha"] in (0.1, 1.0)


@over_estimators
def test_representations(kind):
    model = kind((3, 4), alpha=0.5)
    assert repr(model) == f"{kind.__name__}(alpha=0.5, hidden_layer_sizes=(3, 4))"
    assert "hidden_layer_sizes" in estimator_html_repr(model)
    assert clone(model).get_params() == model.get_params()
    assert kind().set_params(n_threads=2).n_threads == 2


@over_estimators
def test_docstrings_tell_every_parameter_with_its_default(kind):
    doc = inspect.getdoc(kind)
    for name, parameter in inspect.signature(kind).parameters.items():
        line = re.search(rf"^(?:\w+, )?{name}(?:, \w+)? : .*$", doc, re.MULTILINE)
        assert line, name
        names, described = line[0].split(" : ")
        defaults = described.split("default=")[1].split(", ")
        told = defaults[names.split(", ").index(name)]
        assert ast.literal_eval(told) == parameter.default, name
    for name in vars(fitted(kind, pd.DataFrame(X, columns=list("abcd")))):
        if name.endswith("_") and not name.startswith("_"):
            assert re.search(rf"^{name} : ", doc, re.MULTILINE), name
    for row in rows("activation"):
        assert f"'{row}'" in doc
    assert "<shared" not in doc
    assert doctest.DocTestFinder().find(kind)[0].examples


def test_public_names():
    estimators = {"MLPClassifier", "MLPRegressor", "NetworkClassifier", "NetworkRegressor"}
    estimators |= {"NonFiniteError", "check_gradients", "diagnose", "load"}
    tensors = {"Tensor", "Function", "no_grad", "checkpoint", "ops"}
    transforms = {"grad", "value_and_grad", "vjp", "jvp", "hessian_vector_product"}
    networks = {"nn", "compile", "find_learning_rate", "fit"}
    displays = {"ActivationDisplay", "FitDisplay", "GradientFlowDisplay", "LossCurveDisplay"}
    assert set(fastbp.__all__) == estimators | tensors | transforms | networks | displays
    # A function of a submodule's name would hide it.
    modules = {name for name in fastbp.__all__ if inspect.ismodule(getattr(fastbp, name))}
    assert modules == {"nn", "ops"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", fastbp.__version__)
