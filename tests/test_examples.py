"""The examples, each in a reduced form: what they say of themselves holds."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test_and_is_listed():
    names = {path.stem for path in FOLDER.glob("*.py")}
    tested = {name.removeprefix("test_the_") for name in globals() if name.startswith("test_the_")}
    assert names == tested
    listed = (FOLDER / "README.md").read_text()
    assert all(f"`{name}.py`" in listed for name in names)


def test_the_lenet():
    accuracy = example("lenet").main(max_epochs=6)
    assert accuracy["convolutional"] > 0.85  # of ten digits


def test_the_depth():
    found = example("depth").main(max_epochs=8)
    # Of fifty layers, each of which shortens the gradient by about the square root of 3.
    assert found["plain"]["first"] < 1e-8 < 1e-1 < found["residual"]["first"]
    assert found["plain"]["accuracy"] < 0.2 < 0.6 < found["residual"]["accuracy"]


def test_the_long_lag(tmp_path):
    pytest.importorskip("matplotlib")
    length = 25
    found = example("long_lag").main(length, max_epochs=10, plot=tmp_path / "lags.png")
    lags = {name: one["lags"] for name, one in found.items()}
    assert all(len(one) == length for one in lags.values())
    assert lags["RNN"][-1] / lags["RNN"][0] < 1e-4 < 1e-3 < lags["LSTM"][-1] / lags["LSTM"][0]
    assert found["RNN"]["right"] < 0.9 < 0.95 < found["LSTM"]["right"]
    assert (tmp_path / "lags.png").stat().st_size > 10_000


def test_the_characters():
    found = example("characters").main(n_windows=600, max_epochs=6)
    # Words are learnt first: of the way from knowing nothing to knowing the grammar, most is made.
    assert found["entropy"] < found["loss"] < 0.35 * found["uniform"]
    assert len(found["text"]) == 150


def test_the_spam():
    found = example("spam").main(n=3000)
    # Half of the messages are said to be spam by chance where pairs are not understood.
    assert found["logistic regression"] < 0.5 < 0.6 < found["two layers"]


def test_the_fine_tuning():
    found = example("fine_tuning").main(max_epochs=40)
    assert found["fine-tuned"] > found["from scratch"] + 0.01
