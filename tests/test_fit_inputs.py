"""Several inputs of `fastbp.fit`: dicts and structured arrays, and errors that name them."""

import numpy as np
import pytest
import scipy.sparse
from helpers import same_history

from fastbp import NetworkRegressor, fit, nn, ops

RNG = np.random.default_rng(0)
N = 20
TOWN = RNG.integers(0, 5, N)
SIZES = RNG.standard_normal((N, 3)).astype(np.float32)
NAMED = {"town": TOWN, "sizes": SIZES}
PRICES = RNG.standard_normal((N, 1)).astype(np.float32)


class Shop(nn.Module):
    """Two inputs, of which one is looked up; a third that may be left out."""

    def __init__(self):
        self.town, self.head = nn.Embedding(5, 2), nn.Linear(1)

    def forward(self, town, sizes, scale=1.0):
        return self.head(ops.concatenate([self.town(town), sizes * scale], axis=1))


class Twice(nn.Module):
    """Two outputs."""

    def __init__(self):
        self.high, self.low = nn.Linear(1), nn.Linear(1)

    def forward(self, x):
        return {"high": self.high(x), "low": self.low(x)}


def built():
    return Shop().build(NAMED, seed=1)


def structured(**fields):
    made = np.empty(
        len(next(iter(fields.values()))),
        [(name, one.dtype, one.shape[1:]) for name, one in fields.items()],
    )
    for name, one in fields.items():
        made[name] = one
    return made


def test_fields_of_a_structured_array_are_inputs_and_targets():
    by_dict = fit(built(), "squared_error", NAMED, PRICES)
    records = structured(spare=TOWN, **NAMED)[["sizes", "town"]]  # in any order, with gaps
    for module in (built(), Shop().build(records, seed=1)):
        again = fit(module, "squared_error", records, PRICES)
        assert same_history(again.history, by_dict.history)
    fresh = fit(Shop(), "squared_error", records, PRICES, seed=1)  # which builds it
    assert same_history(fresh.history, by_dict.history)
    losses = {"high": "squared_error", "low": "squared_error"}
    targets = {"high": PRICES, "low": -PRICES}
    results = [fit(Twice(), losses, SIZES, y, seed=1) for y in (targets, structured(**targets))]
    assert same_history(results[0].history, results[1].history)


def names(*given):
    return {name: NAMED.get(name, SIZES) for name in given}


WRONG = {
    "missing": (
        names("town"),
        r"X: found a dict with \['town'\], wanted .*'town', 'sizes'.*: \['sizes'\] missing$",
    ),
    "unknown": (
        names("town", "sizes", "colour", "age"),
        r"X: found a dict .*: \['colour', 'age'\] not known$",
    ),
    "another": (
        names("town", "colour"),
        r"X: found .*: \['sizes'\] missing, \['colour'\] not known$",
    ),
    "none": (
        SIZES,
        r"X: found ndarray, wanted a dict with \['town', 'sizes'.*or a structured array",
    ),
    "field": (
        structured(town=TOWN, colour=SIZES),
        r"X: found .*: \['sizes'\] missing, \['colour'\] not known$",
    ),
}


@pytest.mark.parametrize("way", ["built", "not built", "estimator"])
@pytest.mark.parametrize("case", WRONG)
def test_names_that_are_missing_or_not_known_are_told(case, way):
    X, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        if way == "estimator":
            NetworkRegressor(Shop()).fit(X, PRICES[:, 0])
        else:
            fit(built() if way == "built" else Shop(), "squared_error", X, PRICES)


def test_build_calls_them_inputs():
    with pytest.raises(ValueError, match=r"^inputs: found .* \['sizes'\] missing"):
        Shop().build({"town": TOWN})
    with pytest.raises(ValueError, match=r"^inputs: found int, wanted a dict with \['town'"):
        Shop().build(3)


NAN = np.where(SIZES > 1, np.nan, SIZES)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sizes": SIZES[:, :2]}, r"X\['sizes'\]: found shape \(20, 2\), wanted \(n, 3\)"),
        ({"sizes": SIZES[:9]}, r"X\['sizes'\]: found 9 samples, wanted 20, as of 'town'"),
        ({"sizes": np.float32(1)}, r"X\['sizes'\]: found shape \(1,\), wanted \(n, 3\)"),
        ({"sizes": scipy.sparse.csr_array(SIZES)}, r"X\['sizes'\]: found sparse .* wanted dense"),
        ({"sizes": NAN}, r"X\['sizes'\]: found infinite or NaN"),
        ({"sizes": SIZES.astype(str)}, r"X\['sizes'\] has dtype <U32"),
        ({"town": SIZES[:, 0]}, r"X\['town'\] has dtype float32, wanted integers"),
    ],
)
def test_an_input_that_does_not_fit_is_called_by_its_name(given, words):
    wrong = {**NAMED, **given}
    with pytest.raises((ValueError, TypeError), match=f"^{words}"):
        fit(built(), "squared_error", wrong, PRICES)
    with pytest.raises((ValueError, TypeError), match=f"^validation_data: {words}"):
        fit(built(), "squared_error", NAMED, PRICES, validation_data=(wrong, PRICES))


def test_a_target_that_does_not_fit_is_called_by_its_name():
    losses = {"high": "squared_error", "low": "squared_error"}
    for low, words in [
        (SIZES, r"^y\['low'\]: found shape \(20, 3\), wanted \(n, 1\)"),
        (PRICES[:9], r"^y\['low'\]: found 9 samples, wanted 20, as of 'high'"),
        (PRICES * np.inf, r"^y\['low'\]: found infinite or NaN"),
    ]:
        with pytest.raises(ValueError, match=words):
            fit(Twice(), losses, SIZES, {"high": PRICES, "low": low})
    with pytest.raises(
        ValueError, match=r"^y: found a dict with \['price'\], wanted a single array"
    ):
        fit(built(), "squared_error", NAMED, {"price": PRICES})
