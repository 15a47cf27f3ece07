"""`save` and `load`: what comes back is what was saved, bit for bit; what cannot be says so."""

import json
import os
import struct
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer, r2_score
from sklearn.model_selection import KFold

import fastbp
from fastbp import (
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
    nn,
    ops,
    optim,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
N = 40
TABLE = rng.standard_normal((N, 5))
SERIES = rng.standard_normal((N, 6, 2)).astype(np.float32)
PADDED = SERIES.copy()
PADDED[:20, 4:] = -9.0
IMAGES = rng.standard_normal((N, 8, 8, 1)).astype(np.float32)
TOKENS = rng.integers(0, 9, (N, 7))
CLASSES = np.arange(N) % 3
WORDS = np.array(["red", "green", "blue"])[CLASSES]
VALUES = TABLE.sum(axis=1)
SHOP = {"town": rng.integers(0, 5, N), "sizes": rng.standard_normal((N, 3)).astype(np.float32)}


class Shop(nn.Module):
    def __init__(self, width):
        self.width = width
        self.town, self.head = nn.Embedding(5, width), nn.Linear(1)

    def forward(self, town, sizes):
        return self.head(ops.concatenate([self.town(town), sizes], axis=1))


class Masked(nn.Module):
    def __init__(self, layer):
        self.layer, self.head = layer, nn.Linear(3)

    def forward(self, x, mask):
        return self.head(self.layer(x, mask=mask))


class Forgetful(nn.Module):
    """Its parameter does not tell what it computes."""

    def __init__(self, factor=1.0):
        self.factor = factor
        self.head = nn.Linear(3)

    def forward(self, x):
        return self.head(x) * getattr(self, "hidden", 1.0)


def shared():
    twice = nn.Sequential(nn.Linear(5), nn.Tanh())
    return nn.Sequential(twice, nn.Residual(twice), nn.Linear(3))


CONV = nn.Sequential(
    *(nn.Conv2d(4, 3), nn.BatchNorm2d(), nn.LeakyReLU(slope=0.2), nn.MaxPool2d(2)),
    *(nn.Dropout(0.1), nn.Flatten(), nn.Linear(3, bias_init=nn.init.Normal(0.1))),
)
TRANSFORMER = nn.Sequential(
    *(nn.Embedding(9, 8, padding_idx=0), nn.SinusoidalEncoding(), nn.TransformerBlock(2)),
    *(nn.LayerNorm(), nn.GlobalAvgPool(), nn.Linear(3)),
)
PRETRAINED = nn.Sequential(nn.Linear(6), nn.Tanh(), nn.Linear(3)).build(5).freeze("0")


def mlp(kind, X, y, **options):
    return kind((7, 4), max_iter=3, random_state=0, **options).fit(X, y)


def of(kind, network, X, y, **options):
    return kind(network, max_epochs=2, random_state=0, **options).fit(X, y)


def frozen(model):
    model.module_.freeze("0", "2.bias").unfreeze().freeze("2.weight")
    return model


def case(name, make, X, *modules):
    return pytest.param(make, X, modules, id=name)


INDICATORS = (TABLE[:, :3] > 0).astype(int)
SPARSE = scipy.sparse.csr_array(TABLE)
CASES = [
    case("words", lambda: mlp(MLPClassifier, TABLE, WORDS), TABLE),
    case("objects", lambda: mlp(MLPClassifier, TABLE, WORDS.astype(object)), TABLE),
    case("two", lambda: mlp(MLPClassifier, TABLE, CLASSES > 0, dtype=np.float32), TABLE),
    case("floats", lambda: mlp(MLPClassifier, TABLE, CLASSES * 2.0, dtype="float32"), TABLE),
    case("one class", lambda: mlp(MLPClassifier, TABLE, CLASSES * 0), TABLE),
    case("labels", lambda: mlp(MLPClassifier, TABLE, INDICATORS), TABLE),
    case(
        "sparse", lambda: mlp(MLPClassifier, SPARSE, scipy.sparse.csr_array(INDICATORS)), SPARSE
    ),
    case("hinge", lambda: mlp(MLPClassifier, TABLE, CLASSES, loss="hinge"), TABLE),
    case(
        "weighted",
        lambda: MLPClassifier(
            np.array([7, 4]), max_iter=3, class_weight={0: 2.0}, early_stopping=True,
            random_state=np.random.RandomState(3), loss="focal",
            loss_params={"gamma": np.float64(1.5)}, n_iter_no_change=np.inf,
        ).fit(TABLE, CLASSES),
        TABLE,
    ),
    case("regression", lambda: mlp(MLPRegressor, TABLE, VALUES), TABLE),
    case("lbfgs", lambda: mlp(MLPRegressor, TABLE, TABLE[:, :2], solver="lbfgs"), TABLE),
    case(
        "leaky",
        lambda: mlp(
            MLPRegressor, TABLE, abs(VALUES), loss="poisson", activation="leaky_relu",
            activation_params={"slope": 0.3}, weight_init="he_normal", history="step",
        ),
        TABLE,
    ),
    case(
        "architecture",
        lambda: MLPClassifier(
            (6, 6, 3), activation=["tanh", "leaky_relu", "relu"], dropout=[0.1, 0.0, 0.2],
            activation_params=[None, {"slope": 0.2}, None], batch_norm=True, residual=True,
            max_iter=3, random_state=0, schedule=optim.Exponential(0.01, 0.9), clip_norm=1.0,
        ).fit(TABLE, WORDS),
        TABLE,
    ),
    case("frozen layer", lambda: frozen(mlp(MLPClassifier, TABLE, WORDS)), TABLE),
    case("default", lambda: of(NetworkClassifier, None, TABLE, WORDS), TABLE),
    case("conv", lambda: of(NetworkClassifier, CONV, IMAGES, CLASSES), IMAGES),
    case("shared", lambda: of(NetworkClassifier, shared(), TABLE, CLASSES), TABLE),
    case("frozen", lambda: of(NetworkClassifier, PRETRAINED, TABLE, CLASSES), TABLE),
    case("tokens", lambda: of(NetworkClassifier, TRANSFORMER, TOKENS, CLASSES), TOKENS),
    case(
        "lstm",
        lambda: of(
            NetworkRegressor,
            nn.Sequential(nn.LSTM(4, num_layers=2, bidirectional=True), nn.Flatten(), nn.Linear(1)),
            SERIES, VALUES, schedule=optim.Warmup(optim.Cosine(0.01, 10), 2),
            rate_factors={"0": 0.5}, precision="bf16",
        ),
        SERIES,
    ),
    case(
        "plateau",
        lambda: of(
            NetworkRegressor, nn.Linear(1), SPARSE, VALUES, schedule=optim.ReduceOnPlateau(0.01)
        ),
        SPARSE,
    ),
    case("inputs", lambda: of(NetworkRegressor, Shop(3), SHOP, VALUES), SHOP, Shop),
    case(
        "mask",
        lambda: of(
            NetworkClassifier, Masked(nn.GRU(4, output="last")), PADDED, WORDS, mask_value=-9.0
        ),
        PADDED,
        Masked,
    ),
]  # fmt: skip


def outputs(model, X):
    names = ("predict", "predict_proba", "predict_log_proba", "decision_function")
    return {name: getattr(model, name)(X) for name in names if hasattr(model, name)}


def same(one, other):
    """Whether two values are of one type and equal, bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        if one.dtype == object:
            return one.tolist() == other.tolist()
        return one.dtype == other.dtype and one.shape == other.shape and (
            one.tobytes() == other.tobytes()
        )  # fmt: skip
    if isinstance(one, dict):
        return [*one] == [*other] and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if scipy.sparse.issparse(one):
        return same(one.toarray(), other.toarray())
    if isinstance(one, np.random.RandomState):
        return repr(one.get_state()) == repr(other.get_state())
    if isinstance(one, nn.Module):
        return repr(one) == repr(other)
    return one == other


@pytest.mark.parametrize(("make", "X", "modules"), CASES)
def test_what_comes_back_is_what_was_saved(make, X, modules, tmp_path):
    model = make()
    model.save(tmp_path / "model")
    loaded = fastbp.load(str(tmp_path / "model"), modules=modules)
    assert os.listdir(tmp_path) == ["model"]
    assert type(loaded) is type(model)
    before, after = outputs(model, X), outputs(loaded, X)
    assert same(before, after)
    assert loaded.get_params(deep=False).keys() == model.get_params(deep=False).keys()
    public = {name for name in vars(model) if not name.startswith("_")}
    assert public == {name for name in vars(loaded) if not name.startswith("_")}
    differ = [name for name in public if not same(getattr(model, name), getattr(loaded, name))]
    assert differ == []
    frozen = [one.frozen for one in model.module_.parameters().values()]
    assert frozen == [one.frozen for one in loaded.module_.parameters().values()]
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def frame():
    pandas = pytest.importorskip("pandas")
    many = np.array([f"{i:03}" for i in range(300)])[np.r_[:300, np.zeros(100, int)]]
    made = pandas.DataFrame(
        {
            "size": np.where(np.arange(400) % 7 == 0, np.nan, np.arange(400.0)),
            "town": np.array(["a", "b", None], object)[np.arange(400) % 3],
            "code": pandas.Categorical(many),
            "level": np.arange(400) % 5 * 1e6,
        }
    )
    return made.assign(kind=pandas.Series(np.arange(400) % 2 == 0))


@pytest.mark.parametrize("kind", [MLPRegressor, NetworkClassifier])
def test_what_was_learnt_of_columns_comes_back(kind, tmp_path):
    X, y = frame(), np.arange(400) % 2
    options = {"standardize": True, "allow_nan": True, "categorical_features": "from_dtype"}
    model = kind(random_state=0, **options).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "model")
        loaded = fastbp.load(tmp_path / "model")
    X.loc[:5, "town"] = "nowhere"
    X.loc[:5, "level"] = np.nan
    assert same(outputs(model, X), outputs(loaded, X))
    assert loaded.feature_names_in_.tolist() == [*X.columns]


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_scales_and_temperatures_come_back(kind, tmp_path):
    options = {} if kind is MLPRegressor else {"calibration": "temperature", "early_stopping": True}
    y = VALUES * 1e3 if kind is MLPRegressor else CLASSES
    model = mlp(kind, TABLE * 1e3, y, standardize=True, **options)
    model.save(tmp_path / "model")
    assert same(outputs(model, TABLE), outputs(fastbp.load(tmp_path / "model"), TABLE))


def test_names_of_features_come_back(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TABLE, columns=list("abcde"))
    model = mlp(MLPRegressor, frame, VALUES)
    model.save(tmp_path / "model")
    loaded = fastbp.load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == list("abcde")
    assert same(loaded.predict(frame), model.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame[["b", "a", "c", "d", "e"]])


@pytest.mark.parametrize("kind", [MLPClassifier, NetworkClassifier])
@pytest.mark.parametrize("stops", [False, True])
def test_training_goes_on_as_it_would_have(kind, stops, tmp_path):
    model = kind(random_state=0, warm_start=True, early_stopping=stops, tol=0.0)
    limit = "max_iter" if kind is MLPClassifier else "max_epochs"
    model.set_params(**{limit: 3}).fit(TABLE, WORDS).save(tmp_path / "model")
    loaded = fastbp.load(tmp_path / "model")
    before, after = model.fit(TABLE, WORDS).history_, loaded.fit(TABLE, WORDS).history_
    assert len(before.pop("seconds")) == len(after.pop("seconds"))
    assert same(before, after)
    assert same(model.predict_proba(TABLE), loaded.predict_proba(TABLE))


def test_the_file_is_safetensors(tmp_path):
    from safetensors.numpy import load_file

    model = mlp(MLPRegressor, TABLE, VALUES)
    model.save(tmp_path / "model")
    arrays = load_file(tmp_path / "model")
    assert any(same(one, model.module_._built().flat) for one in arrays.values())
    data = (tmp_path / "model").read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    about = json.loads(json.loads(data[8 : 8 + n])["__metadata__"]["fastbp"])
    assert about["format"] == 1 and about["version"] == fastbp.__version__
    assert about["description"]["class"] == "MLPRegressor"


def test_what_was_there_stays_where_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "model"
    mlp(MLPRegressor, TABLE, VALUES).save(path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        mlp(MLPRegressor, TABLE, -VALUES).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model"]


def test_a_file_has_the_permissions_of_any_other(tmp_path):
    mlp(MLPRegressor, TABLE, VALUES).save(tmp_path / "model")
    (tmp_path / "other").touch()
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "other").stat().st_mode


def lambda_network():
    return nn.Sequential(nn.Lambda(abs), nn.Linear(3))


def altered():
    model = of(NetworkClassifier, nn.Sequential(nn.Linear(4), nn.Linear(3)), TABLE, CLASSES)
    model.module_._note = 0
    model.not_fitted = 3
    return model


def forgetful():
    model = NetworkClassifier(Forgetful(), max_epochs=1, random_state=0).fit(TABLE, CLASSES)
    model.module_.hidden = 2.0
    return model


def with_nan():
    model = mlp(MLPRegressor, TABLE, VALUES)
    model.coefs_[1][0, 0] = np.nan
    return model


def network_of(n_inputs, n_outputs):
    return nn.Linear(n_outputs)


class MyClassifier(MLPClassifier):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: of(NetworkRegressor, network_of, TABLE, VALUES), "network: found <function"),
        (lambda: of(NetworkClassifier, lambda_network(), TABLE, CLASSES), r"network\.0: .*Lambda"),
        (
            lambda: mlp(
                MLPRegressor, TABLE, VALUES, early_stopping=True, scoring=make_scorer(r2_score)
            ),
            "scoring: found",
        ),
        (
            lambda: mlp(MLPRegressor, TABLE, VALUES, early_stopping=True, validation_cv=KFold(3)),
            "validation_cv: found KFold",
        ),
        (altered, "not_fitted: found int, which is no fitted attribute"),
        (forgetful, "computes something else"),
        (with_nan, "module_: found infinite or NaN values in parameter '2.weight'"),
        (lambda: mlp(MLPRegressor, TABLE, VALUES).set_params(alpha=np.nan), "'alpha'"),
        (lambda: mlp(MyClassifier, TABLE, CLASSES), "found a MyClassifier"),
    ],
    ids=["function", "lambda", "scorer", "splitter", "attribute", "other", "nan", "invalid", "own"],
)
def test_what_cannot_be_saved_is_named(make, message, tmp_path):
    model = make()
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_what_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        MLPClassifier().save(tmp_path / "model")


def test_classes_of_ones_own_have_to_be_passed(tmp_path):
    of(NetworkRegressor, Shop(3), SHOP, VALUES).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"class 'Shop'.*modules=\[\.\.\.\]"):
        fastbp.load(tmp_path / "model")
    other = type("Shop", (nn.Linear,), {})
    with pytest.raises(ValueError, match="model"):
        fastbp.load(tmp_path / "model", modules=[other])
    with pytest.raises(ValueError, match="two classes of the name 'Shop'"):
        fastbp.load(tmp_path / "model", modules=[Shop, other])
    with pytest.raises(TypeError, match="modules: found 'Shop'"):
        fastbp.load(tmp_path / "model", modules=["Shop"])


def test_another_class_of_the_name_is_noticed(tmp_path):
    of(NetworkRegressor, Shop(3), SHOP, VALUES).save(tmp_path / "model")

    class Wider(Shop):
        def __init__(self, width):
            super().__init__(width + 1)
            self.width = width

    Wider.__qualname__ = "Shop"
    with pytest.raises(ValueError, match=r"town\.weight.*\(5, 4\), wanted .*\(5, 3\)"):
        fastbp.load(tmp_path / "model", modules=[Wider])
