"""The table itself, and what holds for rows of every kind: witnesses, ranges, the same bits.

The tests run over the table, so that a row without a reference fails the suite. What a row computes
is tested in test_activations.py, test_functions.py, test_losses.py and test_rules.py; networks made
of rows are in test_gradients.py and test_engine.py.
"""

import numpy as np
import pytest
import reference
import reference_ops
from helpers import aligned, bits, over, over_dtypes

from fastbp import _core
from fastbp.testing import activation_inputs, cases, loss_inputs, rows

ELEMENTWISE = cases("activation") + cases("function")
LOSSES = cases("loss")
EVERY = {
    "op": {**dict.fromkeys(reference.OPS), **reference_ops.OPS},
    "function": reference.FUNCTIONS,
    "activation": reference.ACTIVATIONS,
    "loss": reference.LOSSES,
    "rule": reference.RULES,
}


@pytest.mark.parametrize("kind", EVERY)
def test_every_row_has_a_reference_and_the_other_way_round(kind):
    assert {row["name"] for row in rows(kind)} == set(EVERY[kind])


def test_the_table_has_no_kind_unknown_to_the_tests():
    assert {row["kind"] for row in _core.table()} == set(EVERY)


def test_names_are_unique_within_a_kind():
    names = [(row["kind"], row["name"]) for row in _core.table()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", _core.table(), ids=lambda row: f"{row['kind']}-{row['name']}")
def test_a_row_describes_itself(row):
    assert row["doc"] and "\n" not in row["doc"]
    for attr in row["attrs"]:
        assert attr["doc"] and "\n" not in attr["doc"]
        required = np.isnan(attr["default"])
        assert required or attr["low"] <= attr["default"] <= attr["high"]
    if row["kind"] == "activation":
        assert row["reads"] in ("nothing", "input", "output")
    if row["kind"] != "rule":
        assert row["row_independent"] == (row["name"] != "moments")
        assert row["tangent"] and row["tangent_of_backward"]


@pytest.mark.parametrize("kind", ["function", "activation", "loss", "rule"])
def test_documented_defaults(kind):
    for row in rows(kind):
        given = [attr for attr in row["attrs"] if not np.isnan(attr["default"])]
        defaults = {attr["name"]: attr["default"] for attr in given}
        assert defaults == EVERY[kind][row["name"]].defaults, row["name"]


def test_links_targets_and_states_are_the_documented_ones():
    for row in rows("loss"):
        witness = reference.LOSSES[row["name"]]
        assert (row["link"], row["target"]) == (witness.link, witness.target), row["name"]
    for row in rows("rule"):
        assert row["n_states"] == reference.RULES[row["name"]].n_states, row["name"]


def test_an_unknown_row_or_attribute_is_named():
    x = np.zeros(3)
    with pytest.raises(ValueError, match="no_such_row"):
        _core.activation("no_such_row", x)
    with pytest.raises(ValueError, match="no_such_row"):
        _core.loss("no_such_row", x[:, None], x[:, None])
    with pytest.raises(ValueError, match="no_such_row"):
        _core.update("no_such_row", x, x.copy(), [], 0.1, 1)
    with pytest.raises(ValueError, match="no_such_attribute"):
        _core.activation("elu", x, {"no_such_attribute": 1.0})


@pytest.mark.parametrize(
    ("row", "attr"),
    [(row, attr) for row in _core.table() for attr in row["attrs"] if row["kind"] == "activation"],
    ids=lambda value: value["name"],
)
def test_an_attribute_outside_its_range_is_refused(row, attr):
    wrong = [np.nan, np.inf]
    if np.isfinite(attr["low"]):
        wrong.append(attr["low"] if attr["low_open"] else attr["low"] - 1)
    if np.isfinite(attr["high"]):
        wrong.append(attr["high"] if attr["high_open"] else attr["high"] + 1)
    for value in wrong:
        with pytest.raises(ValueError, match=attr["name"]):
            _core.activation(row["name"], np.zeros(3), {attr["name"]: value})


# ------------------------------------------------------------------------------------ the same bits


@over_dtypes
@pytest.mark.parametrize("order", [0, 1, 2])
@over(ELEMENTWISE)
def test_an_element_has_the_same_bits_in_every_place(case, order, dtype):
    """Every position, length from 1 to 70 and alignment to the cache line."""
    values = np.random.default_rng(0).permutation(activation_inputs(case, dtype))[:70]
    alone = np.concatenate(
        [_core.activation(case.name, values[i : i + 1], case.attrs, order=order) for i in range(70)]
    )
    (line,) = aligned(1, 70 + 64, dtype)
    for offset in range(64 // line.itemsize):
        for length in range(1, 71):
            # Over the lengths, every element comes to every position.
            shift = (31 * length + offset) % 70
            part = line[offset : offset + length]
            part[:] = np.roll(values, shift)[:length]
            result = _core.activation(case.name, part, case.attrs, order=order)
            assert np.array_equal(bits(result), bits(np.roll(alone, shift)[:length]))


def fma_isas():
    return [isa for isa in _core.build_info()["isas"] if isa in ("v3", "v4")]


@pytest.mark.skipif(len(fma_isas()) < 2, reason="needs two instruction sets with FMA")
@over_dtypes
@over(ELEMENTWISE + LOSSES)
def test_every_instruction_set_gives_the_same_bits(case, dtype, force_isa):
    results = {}
    for name in fma_isas():
        force_isa(name)
        if case.row["kind"] != "loss":
            x = activation_inputs(case, dtype, extremes=True)
            results[name] = [
                _core.activation(case.name, x, case.attrs, order=order) for order in (0, 1, 2)
            ]
        else:
            z, t = loss_inputs(case, 30, 5, dtype)
            results[name] = [
                *_core.loss(case.name, z, t, case.attrs),
                *_core.loss_tangent(case.name, z, t, np.roll(z, 1), case.attrs),
                _core.link(case.name, z),
            ]
    first, *others = results.values()
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(bits(a), bits(b))


def test_forcing_an_unknown_instruction_set_is_refused(force_isa):
    with pytest.raises(ValueError, match="v99"):
        force_isa("v99")
    force_isa(None)
    assert _core.build_info()["isa"] == _core.build_info()["isas"][-1]
