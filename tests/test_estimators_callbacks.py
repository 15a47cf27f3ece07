"""scikit-learn's callbacks: what they are told and may stop, how they come from above; budgets."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
over_all = pytest.mark.parametrize(
    "kind", [MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor]
)


def made(kind, n_epochs=5, **given):
    limit = "max_iter" if issubclass(kind, (MLPClassifier, MLPRegressor)) else "max_epochs"
    return kind(**{limit: n_epochs, "random_state": 0, "learning_rate_init": 0.01, **given})


class Recorder:
    """Notes the tasks, and what the model of each moment predicts; stops after some epochs."""

    def __init__(self, stop_after=None):
        self.told, self.predicted, self.stop_after = [], [], stop_after
        self.ready = self.torn = 0

    def setup(self, estimator, context):
        self.ready += 1

    def teardown(self, estimator, context):
        self.torn += 1

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.told.append(("begin", context.task_name, context.task_id, len(X), metadata))

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.told.append(("end", context.task_name, context.task_id))
        self.predicted.append(fitted_estimator.predict(X))
        ended = [what for what in self.told if what[:2] == ("end", "epoch")]
        return len(ended) == self.stop_after


@over_all
def test_each_epoch_is_a_task(kind):
    recorder = Recorder()
    model = made(kind).set_callbacks(recorder).fit(X, Y, np.ones(150))
    tasks = [(what[0], what[1], what[2]) for what in recorder.told]
    epochs = [(way, "epoch", i) for i in range(5) for way in ("begin", "end")]
    assert tasks == [("begin", "fit", 0), *epochs, ("end", "fit", 0)]
    assert (recorder.ready, recorder.torn) == (1, 1)
    assert recorder.told[0][3] == 150
    np.testing.assert_array_equal(recorder.told[0][4]["sample_weight"], np.ones(150))
    # The model of each moment is that of a training that ends there; the estimator's is the last.
    for i, predicted in enumerate(recorder.predicted[:5]):
        np.testing.assert_array_equal(
            predicted, made(kind, i + 1).fit(X, Y, np.ones(150)).predict(X)
        )
    np.testing.assert_array_equal(recorder.predicted[5], model.predict(X))


@over_all
def test_callbacks_change_nothing(kind):
    watched = made(kind).set_callbacks(Recorder()).fit(X, Y)
    np.testing.assert_array_equal(watched._flat(), made(kind).fit(X, Y)._flat())
    again = watched.set_callbacks().fit(X, Y)
    np.testing.assert_array_equal(again._flat(), watched._flat())


@over_all
def test_a_callback_stops_training(kind):
    model = made(kind, 50).set_callbacks(Recorder(stop_after=3)).fit(X, Y)
    assert model.n_iter_ == 3
    np.testing.assert_array_equal(model._flat(), made(kind, 3).fit(X, Y)._flat())


@pytest.mark.parametrize("kind", [MLPClassifier, NetworkClassifier])
def test_iterations_of_lbfgs(kind):
    chosen = {"solver": "lbfgs"} if kind is MLPClassifier else {"optimizer": "lbfgs"}
    recorder = Recorder()
    model = made(kind, 7, **chosen).set_callbacks(recorder).fit(X, Y)
    assert model.n_iter_ == 7
    assert [what[:3] for what in recorder.told if what[1] == "iteration"] == [
        (way, "iteration", i) for i in range(7) for way in ("begin", "end")
    ]

    class Stop(Recorder):
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "iteration" and context.task_id == 2

    assert made(kind, 50, **chosen).set_callbacks(Stop()).fit(X, Y).n_iter_ == 3


def test_early_stopping_ends_with_the_best_epoch_for_callbacks_too():
    recorder = Recorder()
    given = {"early_stopping": True, "learning_rate_init": 0.3, "n_iter_no_change": 3}
    model = made(MLPClassifier, 60, **given).set_callbacks(recorder).fit(X, Y)
    best = int(np.argmax(model.validation_scores_))
    assert best < model.n_iter_ - 1
    np.testing.assert_array_equal(recorder.predicted[best], model.predict(X))
    np.testing.assert_array_equal(recorder.predicted[-1], model.predict(X))


def test_an_error_tears_them_down():
    class Failing(Recorder):
        def on_fit_task_begin(self, estimator, context):
            if context.task_id == 2:
                raise ZeroDivisionError("third epoch")

    failing = Failing()
    model = made(MLPClassifier).set_callbacks(failing)
    with pytest.raises(ZeroDivisionError, match="third epoch"):
        model.fit(X, Y)
    assert failing.torn == 1
    assert not hasattr(model, "_callback_fit_ctx")
    assert not hasattr(model, "coefs_")
    assert model.set_callbacks().fit(X, Y).n_iter_ == 5


def test_the_monitor_of_scikit_learn():
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = made(MLPClassifier).set_callbacks(monitor).fit(X, Y)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    expected = [made(MLPClassifier, i + 1).fit(X, Y).score(X, Y) for i in range(5)]
    assert scores == expected
    assert scores[-1] == model.score(X, Y)


class Propagated(Recorder):
    """One that is set above, and comes down to all estimators below."""

    max_propagation_depth = None

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.told.append((context.estimator_name, context.task_name, fitted_estimator is not None))


def test_they_come_through_pipelines_and_searches():
    recorder = Propagated()
    pipe = make_pipeline(StandardScaler(), made(MLPClassifier, 3)).set_callbacks(recorder)
    pipe.fit(X, Y)
    epochs = [what for what in recorder.told if what == ("MLPClassifier", "epoch", True)]
    assert len(epochs) == 3
    assert not hasattr(pipe[-1], "_skl_callbacks")
    recorder = Propagated()
    search = GridSearchCV(made(NetworkClassifier, 2), {"alpha": [0.0, 1.0]}, cv=2)
    search.set_callbacks(recorder).fit(X, Y)
    epochs = [what for what in recorder.told if what == ("NetworkClassifier", "epoch", True)]
    assert len(epochs) == 2 * (2 * 2 + 1)  # of each fit, the last one on all samples


def test_the_progress_bar_of_scikit_learn():
    pytest.importorskip("rich")
    model = made(MLPClassifier).set_callbacks(callback.ProgressBar())
    np.testing.assert_array_equal(model.fit(X, Y)._flat(), made(MLPClassifier).fit(X, Y)._flat())


def test_clones_have_them_and_pickles_of_what_was_fitted_work():
    model = made(MLPClassifier).set_callbacks(Recorder())
    assert clone(model)._skl_callbacks == model._skl_callbacks
    model.fit(X, Y)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    found = cross_validate(made(MLPClassifier), X, Y, cv=2)
    assert len(found["test_score"]) == 2


class TestBudget:
    @over_all
    def test_training_ends_with_the_epoch_in_which_time_is_up(self, kind):
        model = made(kind, 10**6, max_seconds=1e-9, tol=0, n_iter_no_change=np.inf).fit(X, Y)
        assert model.n_iter_ == 1
        given = {"max_seconds": 0.2, "tol": 0, "n_iter_no_change": np.inf}
        model = made(kind, 10**6, **given).fit(X, Y)
        *before, _ = model.history_["seconds"]
        assert sum(before) < 0.2  # or an epoch before had been the last
        assert model.n_iter_ > 1

    @over_all
    def test_time_enough_changes_nothing(self, kind):
        one, other = made(kind, max_seconds=1e9).fit(X, Y), made(kind).fit(X, Y)
        np.testing.assert_array_equal(one._flat(), other._flat())
