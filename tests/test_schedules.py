"""Learning-rate schedules: numbers worked by hand, PyTorch's schedulers, what is refused.

ReduceOnPlateau, which follows losses and not steps, is in test_plateau.py.
"""

import pickle
import warnings
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from helpers import Run, over_dtypes

from fastbp import optim
from fastbp.optim import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseScaling,
    MultiStep,
    OneCycle,
    Polynomial,
    Schedule,
    Step,
    Warmup,
)
from fastbp.testing import network

EPS = np.finfo(np.float64).eps

GROWING = Exponential(0.1, gamma=2)

# The rates of some steps. Cosines are taken at 0, 60, 90, 120 and 180 degrees.
BY_HAND = {
    Constant(0.1): {0: 0.1, 1: 0.1, 10**6: 0.1},
    Step(0.8, step_size=3, gamma=0.5): {0: 0.8, 2: 0.8, 3: 0.4, 5: 0.4, 6: 0.2, 300: 0.8 * 2**-100},
    Step(0.8, step_size=1): {0: 0.8, 1: 0.08, 2: 0.008},
    MultiStep(0.8, (2, 5), gamma=0.5): {0: 0.8, 1: 0.8, 2: 0.4, 4: 0.4, 5: 0.2, 100: 0.2},
    Exponential(0.8, gamma=0.5): {0: 0.8, 1: 0.4, 2: 0.2, 3: 0.1},
    GROWING: {0: 0.1, 3: 0.8},
    InverseScaling(0.6): {0: 0.6, 3: 0.3, 8: 0.2},
    InverseScaling(0.6, power_t=1): {0: 0.6, 1: 0.3, 2: 0.2, 5: 0.1},
    Polynomial(0.8, total_iters=4): {0: 0.8, 1: 0.6, 2: 0.4, 3: 0.2, 4: 0.0, 9: 0.0},
    Polynomial(0.8, total_iters=4, power=2): {0: 0.8, 1: 0.45, 2: 0.2, 3: 0.05, 4: 0.0, 5: 0.0},
    Cosine(1.0, T_max=6, eta_min=0.2): {0: 1.0, 2: 0.8, 3: 0.6, 4: 0.4, 6: 0.2, 7: 0.2, 12: 0.2},
    Cosine(1.0, T_max=2): {0: 1.0, 1: 0.5, 2: 0.0},
    # Periods of 3 from 0, 3, 6, ...
    CosineRestarts(1.0, T_0=3, eta_min=0.2): {0: 1.0, 1: 0.8, 2: 0.4, 3: 1.0, 301: 0.8},
    # Periods of 2, 6 and 18 from 0, 2 and 8, and so on from 26.
    CosineRestarts(1.0, T_0=2, T_mult=3, eta_min=0.2): {
        **{0: 1.0, 1: 0.6, 2: 1.0, 4: 0.8, 5: 0.6, 6: 0.4, 8: 1.0, 14: 0.8, 17: 0.6, 26: 1.0}
    },
    # Up from 0.2 to the peak at 0.5 * 6 - 1 = 2, down to 0.1 at 5.
    OneCycle(0.8, total_steps=6, pct_start=0.5, div_factor=4, final_div_factor=2): {
        **{0: 0.2, 1: 0.5, 2: 0.8, 3: 0.625, 4: 0.275, 5: 0.1, 6: 0.1, 100: 0.1}
    },
    # The peak is at 0.25 * 2 - 1 = -0.5: step 0 is a third of the way down to 1.
    OneCycle(0.8, total_steps=2, pct_start=0.25, div_factor=4, final_div_factor=2): {
        **{0: 0.1 + 0.7 * 0.75, 1: 0.1}
    },
    # The peak at step 0, and there is no way up.
    OneCycle(0.8, total_steps=2, pct_start=0.5, div_factor=4, final_div_factor=2): {0: 0.8, 1: 0.1},
    Warmup(Exponential(0.8, gamma=0.5), total_iters=3, start_factor=0.25): {
        **{0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 0.4, 5: 0.2}
    },
    Warmup(Constant(0.9), total_iters=2): {0: 0.3, 1: 0.6, 2: 0.9, 3: 0.9},
    # The inner one begins with 0.4.
    Warmup(Warmup(Constant(0.8), 2, start_factor=0.5), 2, start_factor=0.25): {
        **{0: 0.1, 1: 0.25, 2: 0.4, 3: 0.6, 4: 0.8}
    },
}
over_schedules = pytest.mark.parametrize("schedule", BY_HAND, ids=repr)


def test_every_schedule_is_worked_by_hand():
    kinds = {kind for kind in vars(optim).values() if isinstance(kind, type)}
    schedules = {kind for kind in kinds if issubclass(kind, Schedule)}
    assert {type(schedule) for schedule in BY_HAND} == schedules - {Schedule}
    assert {kind.__name__ for kind in kinds} == set(optim.__all__)


@over_schedules
def test_rates_worked_by_hand(schedule):
    expected = BY_HAND[schedule]
    # At most eight roundings of numbers of at most 1; small ones too keep their digits.
    np.testing.assert_allclose(
        schedule(list(expected)), list(expected.values()), rtol=8 * EPS, atol=0
    )


@over_schedules
def test_a_step_alone_and_an_array_of_steps_agree_to_the_bit(schedule):
    steps = np.arange(40)
    together = schedule(steps)
    assert together.dtype == np.float64
    alone = [schedule(step) for step in range(40)]
    assert all(type(rate) is np.float64 for rate in alone)
    assert together.tolist() == alone
    for same in (range(40), list(range(40)), steps.astype(np.uint8), steps[::-1][::-1]):
        np.testing.assert_array_equal(schedule(same), together)
    np.testing.assert_array_equal(schedule(steps.reshape(2, 4, 5)), together.reshape(2, 4, 5))
    assert schedule(np.int16(3)) == alone[3]
    assert schedule([]).shape == (0,) and schedule(np.zeros((2, 0), int)).shape == (2, 0)


@pytest.mark.parametrize("schedule", [s for s in BY_HAND if s != GROWING], ids=repr)
def test_rates_stay_in_bounds_up_to_the_last_step(schedule):
    steps = np.unique(np.geomspace(1, 2**53, 500).astype(np.int64))
    rates = schedule(steps)
    assert np.isfinite(rates).all() and (rates >= 0).all() and (rates <= 1).all()


@over_schedules
def test_a_schedule_is_a_value(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule)) == schedule
    name = next(iter(vars(schedule)))
    with pytest.raises(FrozenInstanceError):
        setattr(schedule, name, 0.5)


def test_arguments_become_plain_numbers():
    schedule = MultiStep(np.float64(1), np.array([2, 3]), gamma=1)
    assert schedule == MultiStep(1.0, [2, 3], 1.0)
    assert repr(schedule) == "MultiStep(rate=1.0, milestones=(2, 3), gamma=1.0)"
    assert type(Step(1.0, np.int64(2)).step_size) is int


@pytest.mark.parametrize("T_mult", [2, 3, 10])
def test_restarts_are_exact_however_late(T_mult):
    """Logarithms of the step round at just the steps that matter."""
    schedule = CosineRestarts(0.5, T_0=7, T_mult=T_mult)
    starts = [0]
    while (following := starts[-1] * T_mult + 7) <= 2**53:
        starts.append(following)
    assert set(schedule(starts).tolist()) == {0.5}
    before = schedule(np.array(starts[1:]) - 1)
    assert (before < 0.03).all()


def test_a_schedule_of_ones_own():
    class Sawtooth(Schedule):
        def rates(self, steps):
            return 0.1 * (1 + steps % 2)

    np.testing.assert_allclose(
        Warmup(Sawtooth(), 1, 0.5)([0, 1, 2, 3]), [0.05, 0.1, 0.2, 0.1], rtol=2 * EPS
    )


@over_dtypes
def test_training_by_a_schedule_goes_on_where_it_stopped(dtype):
    """Four epochs of five steps are two and two more."""
    net = network(n_samples=23, dtype=dtype)
    schedule = Warmup(Cosine(0.02, T_max=15), total_iters=4)
    rates = schedule(np.arange(20)).reshape(4, 5)
    whole, parts = Run(net), Run(net)
    whole.training.run(rates)
    step = parts.training.run(rates[:2])["step"]
    later = schedule(step + np.arange(10)).reshape(2, 5)
    parts.training.run(later, first_epoch=2, step=step)
    parts.same_as(whole)


# ------------------------------------------------------------------------------------ against torch

# Ours, torch's class and its arguments, and how many steps.
PEERS = [
    (Step(0.3, 7, 0.6), "StepLR", {"step_size": 7, "gamma": 0.6}, 60),
    (MultiStep(0.3, [4, 5, 30]), "MultiStepLR", {"milestones": [4, 5, 30]}, 60),
    (Exponential(0.3, 0.97), "ExponentialLR", {"gamma": 0.97}, 60),
    (Polynomial(0.3, 50, 1.7), "PolynomialLR", {"total_iters": 50, "power": 1.7}, 60),
    (Cosine(0.3, 50, 0.01), "CosineAnnealingLR", {"T_max": 50, "eta_min": 0.01}, 51),
    (CosineRestarts(0.3, 7), "CosineAnnealingWarmRestarts", {"T_0": 7}, 60),
    (
        CosineRestarts(0.3, 3, 2, 0.01),
        "CosineAnnealingWarmRestarts",
        {"T_0": 3, "T_mult": 2, "eta_min": 0.01},
        100,
    ),
    (OneCycle(0.3, 60), "OneCycleLR", {"max_lr": 0.3, "total_steps": 60}, 60),
    (
        OneCycle(0.3, 47, 0.21, 11, 37),
        "OneCycleLR",
        {
            **{"max_lr": 0.3, "total_steps": 47},
            **{"pct_start": 0.21, "div_factor": 11, "final_div_factor": 37},
        },
        47,
    ),
    (Warmup(Constant(0.3), 9), "LinearLR", {"total_iters": 9}, 30),
]


def by_torch(rate, n_steps, make):
    """The rates that PyTorch's optimizer has before each step."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    rates = []
    with warnings.catch_warnings():
        # SequentialLR calls its schedulers in a way that they have come to warn of.
        warnings.simplefilter("ignore")
        scheduler = make(torch.optim.lr_scheduler, optimizer)
        for _ in range(n_steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return rates


def assert_agree(ours, theirs):
    """PyTorch makes many rates from the one before, so that the roundings of all steps, four each,
    of rates of at most 0.3 add up."""
    atol = 0.3 * 4 * len(theirs) * EPS
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize(("schedule", "name", "arguments", "n_steps"), PEERS)
def test_against_torch(schedule, name, arguments, n_steps):
    if name == "OneCycleLR":
        arguments = {**arguments, "cycle_momentum": False}
    theirs = by_torch(0.3, n_steps, lambda of, opt: getattr(of, name)(opt, **arguments))
    assert_agree(schedule(range(n_steps)), theirs)


def test_warmup_is_torchs_sequence_of_a_line_and_the_schedule():
    def make(of, optimizer):
        line = of.LinearLR(optimizer, start_factor=0.2, total_iters=8)
        then = of.CosineAnnealingWarmRestarts(optimizer, T_0=11)
        return of.SequentialLR(optimizer, [line, then], milestones=[8])

    schedule = Warmup(CosineRestarts(0.3, T_0=11), 8, start_factor=0.2)
    assert_agree(schedule(range(50)), by_torch(0.3, 50, make))


# ---------------------------------------------------------------------------------- what is refused

WRONG = [
    (Constant, {"rate": 0}, r"Constant: rate must be a finite number in \(0, inf\); got 0 instead"),
    (Constant, {"rate": np.inf}, r"rate must be .*got inf"),
    (Constant, {"rate": np.nan}, r"rate must be .*got nan"),
    (Constant, {"rate": "0.1"}, r"rate must be .*got '0.1'"),
    (Constant, {"rate": True}, r"rate must be .*got True"),
    (Step, {"rate": 1, "step_size": 0}, r"step_size must be a whole number of at least 1; got 0"),
    (Step, {"rate": 1, "step_size": 2.0}, r"step_size must be .*got 2\.0"),
    (Step, {"rate": 1, "step_size": True}, r"step_size must be .*got True"),
    (Step, {"rate": 1, "step_size": 2, "gamma": 0}, r"gamma must be .*\(0, inf\); got 0"),
    (MultiStep, {"rate": 1, "milestones": [3, 3]}, r"milestones must be .*got \[3, 3\]"),
    (MultiStep, {"rate": 1, "milestones": [0, 3]}, r"milestones must be .*got \[0, 3\]"),
    (MultiStep, {"rate": 1, "milestones": [1.5]}, r"milestones must be .*got \[1\.5\]"),
    (MultiStep, {"rate": 1, "milestones": []}, r"milestones must be one or more.*got \[\]"),
    (MultiStep, {"rate": 1, "milestones": 3}, r"milestones must be .*got 3"),
    (MultiStep, {"rate": 1, "milestones": [[1, 2]]}, r"milestones must be .*got \[\[1, 2\]\]"),
    (MultiStep, {"rate": 1, "milestones": [1], "gamma": -1}, r"gamma must be"),
    (Exponential, {"rate": 1, "gamma": -0.5}, r"gamma must be .*got -0\.5"),
    (InverseScaling, {"rate": 1, "power_t": -0.5}, r"power_t must be .*\[0, inf\); got -0\.5"),
    (Polynomial, {"rate": 1, "total_iters": 0}, r"Polynomial: total_iters must be"),
    (Polynomial, {"rate": 1, "total_iters": 5, "power": 0}, r"power must be .*\(0, inf\)"),
    (Cosine, {"rate": 1, "T_max": 0}, r"T_max must be"),
    (Cosine, {"rate": 0.1, "T_max": 5, "eta_min": 0.2}, r"eta_min must be .*\[0, 0\.1\]; got 0\.2"),
    (CosineRestarts, {"rate": 1, "T_0": 0}, r"T_0 must be"),
    (CosineRestarts, {"rate": 1, "T_0": 5, "T_mult": 1.5}, r"T_mult must be .*got 1\.5"),
    (CosineRestarts, {"rate": 1, "T_0": 5, "eta_min": -1}, r"eta_min must be .*got -1"),
    (OneCycle, {"rate": 1, "total_steps": 0}, r"total_steps must be"),
    (OneCycle, {"rate": 1, "total_steps": 9, "pct_start": 1}, r"pct_start must be .*\[0, 1\)"),
    (OneCycle, {"rate": 1, "total_steps": 9, "div_factor": 0.5}, r"div_factor must be .*\[1, inf"),
    (OneCycle, {"rate": 1, "total_steps": 9, "final_div_factor": 0}, r"final_div_factor must be"),
    (Warmup, {"schedule": 0.1, "total_iters": 5}, r"Warmup: schedule must be a Schedule; got 0\.1"),
    (Warmup, {"schedule": Constant(1), "total_iters": 0}, r"total_iters must be"),
    (
        Warmup,
        {"schedule": Constant(1), "total_iters": 5, "start_factor": 1.5},
        r"start_factor must be .*\(0, 1\]; got 1\.5",
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "match"), WRONG)
def test_a_wrong_argument_is_named(kind, arguments, match):
    with pytest.raises(ValueError, match=match):
        kind(**arguments)


@pytest.mark.parametrize("step", [-1, [3, -1], 1.0, [0.5], True, 2**53 + 1, 2**64, "1", None])
def test_a_wrong_step_is_refused(step):
    with pytest.raises(ValueError, match=r"Constant: step must be whole numbers from 0 to 2\*\*53"):
        Constant(0.1)(step)
