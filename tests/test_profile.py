"""Time by node: it adds up to the time of the pass, and lies where the work is."""

from time import perf_counter

import numpy as np
import pytest

import fastbp
from fastbp import _core, nn, ops


class Uneven(nn.Module):
    """A wide product between small ones, of parameters used twice, and a way past it."""

    def __init__(self):
        self.wide = nn.Linear(256)
        self.small = nn.Linear(8)

    def forward(self, x):
        once = self.small(ops.tanh(self.wide(x)))
        return once + self.small(ops.tanh(self.wide(once)))


@pytest.fixture
def plan():
    return fastbp.compile(Uneven().build(8), "squared_error")


DATA = np.ones((3000, 8), np.float32), np.zeros((3000, 8), np.float32)


def test_the_parts_are_the_whole(plan):
    core, flat = plan.core, plan._module._home.flat
    grad = np.empty_like(flat)
    core.loss_gradient(flat, *DATA, grad=grad)
    core.profile(flat, *DATA)
    shares = []
    for _ in range(5):
        before = perf_counter()
        seconds = core.profile(flat, *DATA)
        shares.append(seconds.sum() / (perf_counter() - before))
        assert seconds.shape == (len(core.nodes) + 1, 2)
        assert (seconds >= 0).all()
    # The times are taken within the call; packing weights and looking at the data is the rest.
    assert max(shares) <= 1.0
    assert max(shares) > 0.5


def test_time_lies_where_the_work_is(plan):
    profile = plan.profile(*DATA)
    by_row = {
        (node.module, node.row): seconds
        for node, seconds in zip(profile.nodes, profile.seconds, strict=True)
    }
    # All that is trained has a gradient of its parameters, formed after the pass.
    assert all(by_row[path, "linear"][1] > 0 for path in ("wide", "small"))
    assert all(by_row["", "tanh"] > 0)
    # The sum past the network is a hundredth of the work.
    assert by_row["", "add"].sum() < by_row["wide", "linear"].sum()
    assert profile.gather > 0 and profile.losses > 0
    assert profile.forward + profile.backward == pytest.approx(
        profile.seconds.sum() + profile.gather + profile.losses, rel=1e-12
    )
    lines = str(profile).splitlines()
    assert lines[0] == "3,000 samples on one thread"
    assert "times as long" in lines[-1]
    assert len(lines) == 6 + len(profile.nodes) + 2


def test_it_is_the_pass_of_a_gradient(plan):
    """What is timed leaves no trace: the same bits before and after."""
    core, flat = plan.core, plan._module._home.flat.copy()
    gradients = []
    for _ in range(2):
        grad = np.empty_like(flat)
        core.loss_gradient(flat, *DATA, grad=grad)
        gradients.append(grad)
        core.profile(flat, *DATA)
    np.testing.assert_array_equal(*gradients)
    np.testing.assert_array_equal(flat, plan._module._home.flat)
    count = _core.allocation_count()
    core.profile(flat, *DATA)
    assert _core.allocation_count() == count


def test_several_inputs_and_frozen_parts():
    class Sum(nn.Module):
        def __init__(self):
            self.table = nn.Linear(4)

        def forward(self, left, right):
            return {"sum": self.table(left) + self.table(right)}

    network = Sum().build({"left": 3, "right": 3}).freeze("table.bias")
    plan = fastbp.compile(network, {"sum": "squared_error"})
    X = {"left": np.ones((9, 3)), "right": np.ones((9, 3))}
    profile = plan.profile(X, {"sum": np.ones((9, 4))}, repeats=1)
    assert [node.row for node in profile.nodes] == ["linear", "linear", "add"]
    assert profile.n_samples == 9


def test_misuse_is_named(plan):
    with pytest.raises(ValueError, match="repeats: found 0, wanted at least 1"):
        plan.profile(*DATA, repeats=0)
    with pytest.raises(ValueError, match="profile: found a plan without a loss"):
        fastbp.compile(Uneven().build(8)).profile(*DATA)
