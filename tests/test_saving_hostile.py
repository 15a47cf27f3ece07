"""Files that `save` has not written: each is a ValueError; nothing of them runs or takes room."""

import copy
import json
import os
import struct
import tracemalloc
import warnings

import numpy as np
import pytest

import fastbp
from fastbp import MLPClassifier, NetworkClassifier, NetworkRegressor, nn, optim
from fastbp.estimators.saving import container
from fastbp.estimators.saving.container import Content

rng = np.random.default_rng(0)
TABLE = rng.standard_normal((30, 4))
CLASSES = np.array(["a", "b", "c"])[np.arange(30) % 3]


def dense():
    return MLPClassifier((3,), warm_start=True, random_state=0), TABLE, CLASSES


def network():
    layers = (nn.LSTM(2, output="last"), nn.Dropout(0.1), nn.Linear(1))
    schedule = optim.Warmup(optim.Cosine(0.01, 10), 2)
    model = NetworkRegressor(nn.Sequential(*layers), schedule=schedule, random_state=0)
    return model, rng.standard_normal((30, 3, 2)).astype(np.float32), TABLE[:, 0]


def tokens():
    layers = (nn.Embedding(5, 4), nn.SinusoidalEncoding(), nn.Flatten(), nn.Linear(3))
    model = NetworkClassifier(nn.Sequential(*layers), random_state=0)
    return model, rng.integers(0, 5, (30, 3)), CLASSES


def columns():
    X = np.array([["a", 1.0, np.nan], ["b", 2.0, 0.5], ["c", 2.5, 1.0]] * 10, object)
    options = {"standardize": True, "allow_nan": True, "categorical_features": [0]}
    return NetworkRegressor(random_state=0, **options), X, TABLE[:, 0]


def fitted(made):
    model, X, y = made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.set_params(**{_limit(model): 2}).fit(X, y), X


def _limit(model):
    return "max_iter" if isinstance(model, MLPClassifier) else "max_epochs"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The path of a small file, its bytes, and the model with samples."""
    model, X = fitted(dense())
    path = tmp_path_factory.mktemp("small") / "model"
    model.save(path)
    return path, path.read_bytes(), model, X


def refused(path):
    with pytest.raises(ValueError, match="model") as info:
        fastbp.load(path)
    return str(info.value)


def test_every_byte_counts(small, tmp_path):
    _, data, _, _ = small
    path = tmp_path / "model"
    for i in range(len(data)):
        damaged = bytearray(data)
        damaged[i] ^= 0xFF
        path.write_bytes(damaged)
        refused(path)


def test_no_bit_changes_a_prediction(small, tmp_path):
    _, data, model, X = small
    path, wanted = tmp_path / "model", model.predict_proba(X).tobytes()
    for i in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[i] ^= 1 << (i % 8)
        path.write_bytes(damaged)
        try:
            found = fastbp.load(path)
        except ValueError:
            continue
        assert found.predict_proba(X).tobytes() == wanted  # a blank that became another blank


def test_every_length_but_the_right_one_is_refused(small, tmp_path):
    _, data, _, _ = small
    path = tmp_path / "model"
    for n in [*range(0, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:n])
        refused(path)
    path.write_bytes(data + b"\0")
    refused(path)


def test_noise_is_refused(tmp_path):
    noise = np.random.default_rng(1)
    path = tmp_path / "model"
    for n in [0, 1, 7, 8, 9, 100, 5000]:
        for _ in range(10):
            path.write_bytes(noise.bytes(n))
            refused(path)
            path.write_bytes(struct.pack("<Q", min(n, max(0, n - 8))) + noise.bytes(n))
            refused(path)


def header(text, data=b""):
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff" * 16, "length of a header"),
        (header(b"{}"), "without fastbp's description"),
        (header(b'{"__metadata__":{"fastbp":"3"}}'), "without fastbp's description"),
        (header(b'{"__metadata__":{"fastbp":"{"}}'), "JSON"),
        (header(b'{"__metadata__":{"fastbp":' + b"[" * 100_000), "JSON"),
        (header(b"[" * 100_000 + b"]" * 100_000), "JSON"),
        (header(b'{"__metadata__":{"fastbp":"{\\"a\\":NaN}"}}'), "JSON"),
        (header(b'{"__metadata__":{"fastbp":"' + b"1" * 9999 + b'"}}'), "JSON"),
        (
            header(b'{"__metadata__":{"fastbp":"{\\"format\\":2,\\"version\\":\\"9.1\\"}"}}'),
            "found format 2, written by fastbp '9.1'; fastbp '.*' reads format 1",
        ),
    ],
)
def test_headers_that_say_nothing(data, words, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=words):
        fastbp.load(path)


def test_a_file_of_another_library_is_refused_unread(tmp_path):
    path = tmp_path / "model"
    shape = [2**33]
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * shape[0]]}
    text = json.dumps({"weight": tensor}).encode()
    with open(path, "wb") as file:
        file.write(header(text))
        file.truncate(8 + len(text) + 4 * shape[0])  # 32 GB that take no room
    tracemalloc.start()
    assert "without fastbp's description" in refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_what_is_no_plain_file_is_refused(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes")
    with pytest.raises(ValueError, match="no plain file"):
        fastbp.load("/dev/zero")
    with pytest.raises(OSError):
        fastbp.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        fastbp.load(tmp_path / "none")


# ---- files with the right digest, of which a part was made up

HOSTILE = [
    *(None, True, 0, -1, 1, 2**31, 2**62, 2**200, 1e308, "", "__reduce__", "\x00", [], {}),
    {"type": "float", "value": "nan"},
    {"type": "array", "array": "a0"},
    {"type": "floats", "array": "a0"},
    {"type": "tuple", "items": [[]]},
    {"type": "dict", "items": [[[], 1]]},
    {"type": "builtins.eval", "value": "1"},
    {"type": "module", "own": True, "class": "Lambda", "params": {"function": "print"}},
    {"type": "record", "name": "init.Normal", "fields": {"std": 1.0}},
    {"type": "array", "dtype": "<U999999999", "shape": [1], "items": ["a"]},
]


def places(value, path=()):
    """The paths of all parts of a description."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else ()
    for key, one in enumerate(value) if isinstance(value, list) else parts:
        yield from places(one, (*path, key))


def with_part(description, path, part):
    changed = copy.deepcopy(description)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = part
    return changed


def survives(path, X):
    """What becomes of a file: refused, or an estimator that predicts or says what is wrong."""
    try:
        model = fastbp.load(path)
    except ValueError:
        return False
    try:
        model.predict(X)
    except ValueError as error:
        assert "n_threads" in str(error)  # how many there are is known when it predicts
    return True


STEPS = [8, pytest.param(1, marks=pytest.mark.exhaustive)]


@pytest.mark.parametrize("make", [dense, network, tokens, columns])
@pytest.mark.parametrize("step", STEPS)
def test_made_up_parts_are_refused_or_harmless(make, step, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # which takes longest
    model, X = fitted(make())
    path = tmp_path / "model"
    model.save(path)
    content = container.read(path)
    everywhere = [*places(content.description)]
    assert len(everywhere) > 80
    found = set()
    # Each part meets some of the values, and each value all kinds of parts.
    for i, place in enumerate(everywhere):
        for part in HOSTILE[i % step :: step]:
            changed = with_part(content.description, place, part)
            container.write(path, Content(changed, content.arrays))
            found.add(survives(path, X))
    assert found == {False, True}


@pytest.mark.parametrize("make", [dense, network])
def test_arrays_of_other_forms_are_refused_or_harmless(make, tmp_path):
    model, X = fitted(make())
    path = tmp_path / "model"
    model.save(path)
    content = container.read(path)
    flat = content.description["network"]["flat"]
    for name, array in content.arrays.items():
        others = [array.astype(kind) for kind in ("f2", "f4", "i4", "?", "f8")]
        others += [array[..., None], array.reshape(-1)[:0], np.zeros(2 * array.size, array.dtype)]
        if array.dtype.kind == "f":
            others.append(np.full_like(array, np.nan))
        for other in others:
            if other.dtype == array.dtype and np.array_equal(other, array):
                continue
            container.write(path, Content(content.description, {**content.arrays, name: other}))
            # Weights of another real dtype make another model, which is as sound.
            assert not (survives(path, X) and name == flat and other.dtype.kind != "f")
    del content.arrays[flat]
    container.write(path, content)
    assert flat in refused(path)


CHANGES = [
    (dense, ("class",), "Estimator", "the class 'Estimator'"),
    (dense, ("params", "alpha"), {"type": "float", "value": "nan"}, "'alpha'.* must be"),
    (dense, ("params", "__reduce__"), 1, "parameters of MLPClassifier of the names"),
    (dense, ("fitted", "__reduce__"), 1, "the attribute '__reduce__'"),
    (dense, ("fitted", "__class__"), 1, "the attribute '__class__'"),
    (dense, ("fitted", "predict"), 1, "the attribute 'predict'"),
    (dense, ("fitted", "_network"), 1, "the attribute '_network'"),
    (dense, ("fitted", "n_features_in_"), 5, "n_features_in_=5 for 4"),
    (dense, ("labels", 0), "binary", "classes_: found .* of kind 'binary'"),
    (dense, ("network", "loss", 0), "hinged", "loss: found"),
    (dense, ("network", "loss", 0), "squared_error", "classes_: found"),
    (dense, ("network", "layers", "sizes"), [4, 2**40, 3], "for the parameters of a network"),
    (dense, ("network", "layers", "sizes", 1), 4, "for the parameters of a network"),
    (dense, ("network", "layers", "norm"), "eval", "norm='eval'"),
    (dense, ("network", "layers", "dropout"), [1.0], "dropout="),
    (dense, ("network", "parameters", 0, 1), [2**40, 2**40], "weights for parameters"),
    (dense, ("network", "freezing"), {"0": ["zz"]}, None),
    (dense, ("training", "vectors"), None, None),
    (dense, ("training", "rule"), "exec", "training: found"),
    (dense, ("training", "rule"), "sgd", "vectors that is no finite"),
    (columns, ("columns", "categorical"), [0, 0], "columns that are not each there once"),
    (columns, ("columns", "holes"), None, "holes in columns that are not there"),
    (columns, ("columns", "encoder", "rare", 0), [0, 1, 2], "a column of rare categories alone"),
    (columns, ("columns", "encoder", "rare", 0), [2**60], "for rare categories"),
    (columns, ("columns", "encoder", "categories", 0, "items", 0), "d", "are not sorted"),
    (columns, ("scale",), None, None),
    (columns, ("scale",), 3, "the scale of other targets"),
    (network, ("network", "module", "class"), "os.system", "no module of fastbp.nn"),
    (network, ("network", "module", "class"), "Lambda", "no module of fastbp.nn"),
    (network, ("network", "module", "own"), False, "not fastbp's own"),
    (
        network,
        ("network", "module", "params", "0", "params", "hidden_size"),
        2**40,
        "asks for a parameter '0.weight_ih_l0'",
    ),
    (
        network,
        ("network", "module", "params", "0", "params", "num_layers"),
        2**40,
        "asks for a parameter '0.weight_ih_l1'",
    ),
    (tokens, ("network", "inputs", "fields", "shape", "items"), [2**60], "the input"),
    (tokens, ("network", "inputs", "fields", "shape", "items"), [2**24], "elements a sample"),
]


@pytest.mark.parametrize(("make", "place", "part", "words"), CHANGES)
def test_made_up_parts_are_named(make, place, part, words, tmp_path):
    model, X = fitted(make())
    path = tmp_path / "model"
    model.save(path)
    content = container.read(path)
    changed = Content(with_part(content.description, place, part), content.arrays)
    container.write(path, changed)
    tracemalloc.start()
    if words is None:
        assert survives(path, X)
    else:
        with pytest.raises(ValueError, match=words):
            fastbp.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25


def test_a_network_that_doubles_with_each_line_is_refused(tmp_path):
    """Two of the one before, forty times: a short file for a graph of 2**40 nodes."""
    model, _ = fitted(network())
    path = tmp_path / "model"
    model.save(path)
    content = container.read(path)
    relu = {"type": "module", "own": True, "class": "ReLU", "params": {}}
    doubled = relu
    for number in range(40):
        both = {"0": doubled, "1": {"type": "same module", "number": number + 1}}
        doubled = {"type": "module", "own": True, "class": "Sequential", "params": both}
    changed = with_part(content.description, ("network", "module", "params", "1"), doubled)
    container.write(path, Content(changed, content.arrays))
    with pytest.raises(ValueError, match="more than 100000 nodes"):
        fastbp.load(path)


def test_values_too_deep_are_refused(tmp_path):
    model, _ = fitted(dense())
    path = tmp_path / "model"
    model.save(path)
    content = container.read(path)
    deep = 0
    for _ in range(120):
        deep = [deep]
    changed = with_part(content.description, ("params", "validation_cv"), deep)
    container.write(path, Content(changed, content.arrays))
    with pytest.raises(ValueError, match="more than 100 deep"):
        fastbp.load(path)


def test_the_state_of_a_generator_stays_within_its_keys(tmp_path):
    """NumPy reads the keys at a place that it does not check."""
    model, X, y = dense()
    model, _ = fitted((model.set_params(random_state=np.random.RandomState(0)), X, y))
    path = tmp_path / "model"
    model.save(path)
    content = container.read(path)
    for place in (-1, 625, 2**40, 1.5):
        changed = with_part(content.description, ("params", "random_state", "rest", 0), place)
        container.write(path, Content(changed, content.arrays))
        with pytest.raises(ValueError, match="random_state: found the state of no RandomState"):
            fastbp.load(path)
