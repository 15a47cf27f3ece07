"""Samples held out: whence they come, how they are scored, and what is refused."""

import numpy as np
import pytest
import sklearn
from helpers import same_history
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import balanced_accuracy_score, log_loss, make_scorer
from sklearn.model_selection import GroupKFold, PredefinedSplit, TimeSeriesSplit, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor, nn

CLASSIFIERS, REGRESSORS = (MLPClassifier, NetworkClassifier), (MLPRegressor, NetworkRegressor)
over_all = pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
over_classifiers = pytest.mark.parametrize("kind", CLASSIFIERS)

X, NUMBERS = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
Y = np.array(["setosa", "versicolor", "virginica"])[NUMBERS]
X_TRAIN, X_VAL, Y_TRAIN, Y_VAL = train_test_split(X, Y, random_state=0)


def made(kind, n_epochs=30, **given):
    limit = "max_iter" if issubclass(kind, (MLPClassifier, MLPRegressor)) else "max_epochs"
    return kind(**{limit: n_epochs, "random_state": 0, "learning_rate_init": 0.01, **given})


def targets(kind):
    return (Y_TRAIN, Y_VAL) if kind in CLASSIFIERS else (X_TRAIN[:, 0] ** 2, X_VAL[:, 0] ** 2)


def weights(model):
    return model._flat().copy()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestWhence:
    @over_all
    def test_samples_of_the_caller_are_scored_and_change_nothing(self, kind):
        y_train, y_val = targets(kind)
        model = made(kind).fit(X_TRAIN, y_train, X_val=X_VAL, y_val=y_val)
        plain = made(kind).fit(X_TRAIN, y_train)
        np.testing.assert_array_equal(weights(model), weights(plain))
        assert model.n_iter_ == len(model.validation_scores_) == 30
        assert model.history_["validation_score"].tolist() == model.validation_scores_
        assert model.validation_scores_[-1] == pytest.approx(model.score(X_VAL, y_val), rel=1e-12)
        assert model.best_validation_score_ is None
        assert plain.validation_scores_ is None

    @over_all
    def test_early_stopping_keeps_the_best_epoch(self, kind):
        y_train, y_val = targets(kind)
        given = {"early_stopping": True, "learning_rate_init": 0.1, "n_iter_no_change": 5}
        model = made(kind, 200, **given).fit(X_TRAIN, y_train, X_val=X_VAL, y_val=y_val)
        assert model.n_iter_ < 200
        scores = model.validation_scores_
        assert model.best_validation_score_ == max(scores)
        assert model.score(X_VAL, y_val) == pytest.approx(max(scores), rel=1e-12)

    @over_all
    def test_a_pair_of_indices_is_the_same_as_samples_of_the_caller(self, kind):
        y_train, y_val = targets(kind)
        both = np.concatenate([X_TRAIN, X_VAL]), np.concatenate([y_train, y_val])
        index = np.arange(len(both[0]))
        pair = index[: len(X_TRAIN)], index[len(X_TRAIN) :]
        one = made(kind, validation_cv=pair).fit(*both)
        other = made(kind).fit(X_TRAIN, y_train, X_val=X_VAL, y_val=y_val)
        np.testing.assert_array_equal(weights(one), weights(other))
        assert same_history(one.history_, other.history_)
        mask = index < len(X_TRAIN)
        masks = made(kind, validation_cv=(mask, ~mask)).fit(*both)
        assert same_history(masks.history_, one.history_)

    @pytest.mark.parametrize("splitter", [TimeSeriesSplit(4), PredefinedSplit(np.arange(150) % 3)])
    def test_the_first_split_of_a_splitter(self, splitter):
        y = X[:, 0] - X[:, 1]
        model = made(MLPRegressor, validation_cv=splitter).fit(X, y)
        index = next(splitter.split(X, y))
        other = made(MLPRegressor, validation_cv=index).fit(X, y)
        assert same_history(model.history_, other.history_)

    def test_groups_stay_together(self):
        groups = np.arange(150) // 10
        model = made(MLPClassifier, validation_cv=GroupKFold(3)).fit(X, Y, groups=groups)
        index = next(GroupKFold(3).split(X, Y, groups))
        assert not set(groups[index[0]]) & set(groups[index[1]])
        other = made(MLPClassifier, validation_cv=index).fit(X, Y)
        assert same_history(model.history_, other.history_)

    def test_weights_of_either(self):
        weight = np.random.default_rng(0).uniform(0, 2, len(X_VAL))
        model = made(MLPClassifier).fit(
            X_TRAIN, Y_TRAIN, X_val=X_VAL, y_val=Y_VAL, sample_weight_val=weight
        )
        assert model.validation_scores_[-1] == pytest.approx(model.score(X_VAL, Y_VAL, weight))
        loss = log_loss(Y_VAL, model.predict_proba(X_VAL), sample_weight=weight)
        assert model.history_["validation_loss"][-1] == pytest.approx(loss, rel=1e-12)

    def test_a_pipeline_transforms_them(self):
        raw = X * 100 + 7
        parts = train_test_split(raw, Y, random_state=0)
        with sklearn.config_context(enable_metadata_routing=True):
            model = made(MLPClassifier).set_fit_request(X_val=True, y_val=True)
            steps = [("scale", StandardScaler()), ("net", model)]
            pipe = Pipeline(steps, transform_input=["X_val"])
            pipe.fit(parts[0], parts[2], X_val=parts[1], y_val=parts[3])
        assert pipe["net"].validation_scores_[-1] == pipe.score(parts[1], parts[3])

    def test_several_inputs(self):
        class Two(nn.Module):
            def __init__(self):
                self.first, self.second = nn.Linear(8), nn.Linear(3)

            def forward(self, a, b):
                return self.second(self.first(a).relu() + b)

        wide = np.repeat(X, 2, axis=1)
        inputs = {"a": X, "b": wide}
        index = np.arange(100) + 50, np.arange(50)
        one = made(NetworkClassifier, network=Two(), validation_cv=index).fit(inputs, Y)
        held = {name: array[:50] for name, array in inputs.items()}
        assert one.validation_scores_[-1] == one.score(held, Y[:50])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestScores:
    @over_all
    def test_minus_the_loss(self, kind):
        y_train, y_val = targets(kind)
        model = made(kind, scoring="loss", early_stopping=True)
        model.fit(X_TRAIN, y_train, X_val=X_VAL, y_val=y_val)
        assert model.validation_scores_ == [-x for x in model.history_["validation_loss"]]

    @over_classifiers
    @pytest.mark.parametrize(
        "scoring",
        ["balanced_accuracy", make_scorer(balanced_accuracy_score)],
        ids=["name", "scorer"],
    )
    def test_scorers_of_scikit_learn(self, kind, scoring):
        model = made(kind, scoring=scoring, early_stopping=True, learning_rate_init=0.05)
        model.fit(X_TRAIN, Y_TRAIN, X_val=X_VAL, y_val=Y_VAL)
        found = balanced_accuracy_score(Y_VAL, model.predict(X_VAL))
        assert model.best_validation_score_ == found == max(model.validation_scores_)

    def test_a_function_sees_the_weights_of_each_epoch_and_the_callers_samples(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(X, columns=list("abcd"))
        seen = []

        def scoring(model, X, y):
            seen.append((model.predict_proba(X), [*X.columns], len(y)))
            return -len(seen)

        model = made(MLPClassifier, 3, scoring=scoring, early_stopping=True).fit(frame, Y)
        assert len(seen) == 3
        assert seen[0][1:] == (["a", "b", "c", "d"], 15)
        assert not np.array_equal(seen[0][0], seen[1][0])
        assert model.best_validation_score_ == -1.0
        assert model.validation_scores_ == [-1.0, -2.0, -3.0]

    def test_another_score_starts_anew(self):
        model = made(MLPRegressor, 3, early_stopping=True, warm_start=True)
        diabetes = load_diabetes(return_X_y=True, scaled=True)
        model.fit(*diabetes)
        model.set_params(scoring="loss").fit(*diabetes)
        assert model.best_validation_score_ == max(model.validation_scores_[3:])


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"X_val": X_VAL}, "X_val was given without y_val"),
            ({"y_val": Y_VAL}, "y_val was given without X_val"),
            ({"sample_weight_val": [1.0]}, "sample_weight_val was given without X_val"),
            ({"groups": Y_TRAIN}, "groups was given without validation_cv"),
            ({"X_val": X_VAL[:, :2], "y_val": Y_VAL}, "X_val.*X has 2 features"),
            ({"X_val": X_VAL * np.nan, "y_val": Y_VAL}, "X_val.*contains NaN"),
            ({"X_val": X_VAL, "y_val": ["rose"] * len(Y_VAL)}, "y_val.*rose"),
            ({"X_val": X_VAL, "y_val": Y_VAL[:3]}, "X_val.*inconsistent numbers of samples"),
        ],
    )
    @over_classifiers
    def test_by_fit(self, kind, given, words):
        with pytest.raises(ValueError, match=words):
            made(kind).fit(X_TRAIN, Y_TRAIN, **given)

    @pytest.mark.parametrize(
        ("given", "passed", "words"),
        [
            ({"validation_cv": TimeSeriesSplit(3)}, True, "X_val and validation_cv each say"),
            ({"validation_fraction": 0.2}, True, "X_val and validation_fraction=0.2 each say"),
            (
                {"validation_cv": TimeSeriesSplit(3), "validation_fraction": 0.2},
                False,
                "validation_cv and validation_fraction=0.2 each say",
            ),
            ({"validation_cv": ([0, 1], [1, 2])}, False, "1 samples in both parts, 1 the first"),
            ({"validation_cv": ([0, 1], [])}, False, "wanted their indices, at least one"),
            ({"validation_cv": ([0, 1], [1000])}, False, "wanted 0 to 111"),
            ({"validation_cv": ([0, 1], [0.5])}, False, "wanted their indices"),
            ({"scoring": lambda *_: np.nan, "early_stopping": True}, False, "wanted a finite"),
            ({"scoring": lambda *_: "good", "early_stopping": True}, False, "wanted a finite"),
        ],
    )
    @over_classifiers
    def test_by_parameters(self, kind, given, passed, words):
        held = {"X_val": X_VAL, "y_val": Y_VAL} if passed else {}
        with pytest.raises(ValueError, match=words):
            made(kind, **given).fit(X_TRAIN, Y_TRAIN, **held)

    @pytest.mark.parametrize("given", [{"solver": "lbfgs"}, {"optimizer": "lbfgs"}])
    def test_lbfgs_has_no_epochs(self, given):
        kind = MLPClassifier if "solver" in given else NetworkClassifier
        model = kind(**given)
        with pytest.raises(ValueError, match=r"X_val holds samples out .* L-BFGS has none"):
            model.fit(X_TRAIN, Y_TRAIN, X_val=X_VAL, y_val=Y_VAL)
