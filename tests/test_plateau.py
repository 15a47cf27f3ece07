"""ReduceOnPlateau: a rate that follows the losses so far, and nothing else."""

from itertools import product

import numpy as np
import pytest

from fastbp.optim import ReduceOnPlateau

# Settings, losses, and the rates of all epochs and of the one after them, worked by hand.
BY_HAND = [
    ({}, [], [0.8]),
    # Two in a row without improvement are let pass, the third is not; then it is counted anew.
    (
        {"patience": 2},
        [1, 2, 2, 2, 2, 2, 2, 0.5, 2],
        [0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2],
    ),
    # The two epochs after a reduction are not counted.
    (
        {"patience": 0, "cooldown": 2},
        [1, 1, 1, 1, 1, 0.5, 1],
        [0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2],
    ),
    # Below 0.9, then below 0.81: 0.85 does not count.
    ({"patience": 0, "threshold": 0.1}, [1, 0.89, 0.85, 0.8], [0.8, 0.8, 0.8, 0.4, 0.4]),
    # Below 0.5, then below -0.1: a bound of its own sign does not matter.
    (
        {"patience": 0, "threshold": 0.5, "threshold_mode": "abs"},
        [1, 0.4, 0.0, -0.2],
        [0.8, 0.8, 0.8, 0.4, 0.4],
    ),
    ({"patience": 0, "mode": "max", "threshold": 0.1}, [1, 1.05, 1.2], [0.8, 0.8, 0.4, 0.4]),
    (
        {"patience": 0, "mode": "max", "threshold": 0.1, "threshold_mode": "abs"},
        [-1, -0.95, -0.8],
        [0.8, 0.8, 0.4, 0.4],
    ),
    ({"patience": 0, "min_lr": 0.3}, [1, 1, 1, 1], [0.8, 0.8, 0.4, 0.3, 0.3]),
    # From 0.4 to 0.2 would be no more than eps.
    ({"patience": 0, "eps": 0.25}, [1, 1, 1, 1], [0.8, 0.8, 0.4, 0.4, 0.4]),
    ({"patience": 0}, [1, np.nan, np.inf, 0.5], [0.8, 0.8, 0.4, 0.2, 0.2]),
]


@pytest.mark.parametrize(("settings", "losses", "rates"), BY_HAND)
def test_rates_worked_by_hand(settings, losses, rates):
    plateau = ReduceOnPlateau(0.8, **{"factor": 0.5, **settings})
    assert plateau.rates(losses).tolist() == rates
    assert plateau.rates(losses).dtype == np.float64


GRID = {
    "mode": ["min", "max"],
    "threshold_mode": ["rel", "abs"],
    "threshold": [0.0, 0.02],
    "patience": [0, 3],
    "cooldown": [0, 2],
}
SETTINGS = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]


def history(seed, n=80):
    """Losses that fall in a noisy way; one epoch has none."""
    rng = np.random.default_rng(seed)
    losses = np.exp(-np.arange(n) / 20) + 0.1 * rng.standard_normal(n)
    losses[n // 2] = np.nan
    return losses


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_saved_history_gives_the_same_rates(settings):
    """The rate of each epoch is a function of the losses before it alone."""
    plateau, losses = ReduceOnPlateau(0.8, factor=0.7, **settings), history(0)
    rates = plateau.rates(losses)
    assert len(set(rates.tolist())) > 2
    for n in range(len(losses) + 1):
        assert plateau(losses[:n]) == rates[n]
        assert type(plateau(losses[:n].tolist())) is np.float64


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_against_torch(settings):
    """Every rate is equal to the last bit: the operations are the same."""
    torch = pytest.importorskip("torch")
    for seed in range(5):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=0.7, min_lr=0.01, eps=1e-3, **settings
        )
        rates = [0.8]
        for loss in history(seed):
            scheduler.step(loss)
            rates.append(optimizer.param_groups[0]["lr"])
        ours = ReduceOnPlateau(0.8, factor=0.7, min_lr=0.01, eps=1e-3, **settings)
        assert ours.rates(history(seed)).tolist() == rates


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"rate": -1}, r"ReduceOnPlateau: rate must be .*got -1"),
        ({"mode": "least"}, r"mode must be one of 'min', 'max'; got 'least'"),
        ({"mode": None}, r"mode must be one of .*got None"),
        ({"factor": 1}, r"factor must be .*\(0, 1\); got 1"),
        ({"patience": -1}, r"patience must be a whole number of at least 0; got -1"),
        ({"threshold": -1}, r"threshold must be .*got -1"),
        ({"threshold_mode": "relative"}, r"threshold_mode must be one of 'rel', 'abs'"),
        ({"cooldown": 0.5}, r"cooldown must be a whole number .*got 0\.5"),
        ({"min_lr": 1}, r"min_lr must be .*\[0, 0\.8\]; got 1"),
        ({"eps": -1e-9}, r"eps must be .*got -1e-09"),
    ],
)
def test_a_wrong_argument_is_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        ReduceOnPlateau(**{"rate": 0.8, **arguments})


@pytest.mark.parametrize("losses", [1.0, [[1.0]], ["1.0"], [None], [1j], [True]])
def test_wrong_losses_are_refused(losses):
    with pytest.raises(ValueError, match=r"losses must be a list or 1-D array of numbers"):
        ReduceOnPlateau(0.8)(losses)
