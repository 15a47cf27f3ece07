"""Learning rates in training: one for each epoch, or one for each step."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import Run, by_hand, over_dtypes, over_rules

from fastbp.testing import network


@over_dtypes
@over_rules
def test_every_step_may_have_a_rate_of_its_own(rule, dtype):
    net = network((6, 9, 4), dtype=dtype, n_samples=23)
    options = {"batch_size": 5, "shuffle": True, "seed": 77, "alpha": 0.1}
    rates = np.linspace(0.02, 0.001, 15).reshape(3, 5)
    run = Run(net, rule.name, **options)
    result = run.training.run(rates)
    params, states, *_ = by_hand(net, rule.name, {}, rates, weights=None, **options)
    np.testing.assert_array_equal(run.params, params)
    np.testing.assert_array_equal(run.states, states)
    assert result["step"] == 15 and result["losses"].shape == (3,)
    # In two runs.
    parts = Run(net, rule.name, **options)
    step = parts.training.run(rates[:2])["step"]
    parts.training.run(rates[2:], first_epoch=2, step=step)
    parts.same_as(run)
    # The same rate for all steps of an epoch; Fortran's order of the array.
    by_epoch, by_step = Run(net, rule.name, **options), Run(net, rule.name, **options)
    by_epoch.training.run(rates[:, 0])
    by_step.training.run(np.asfortranarray(np.repeat(rates[:, :1], 5, axis=1)))
    by_step.same_as(by_epoch)


@pytest.mark.threads
def test_rates_of_steps_are_the_same_for_every_thread():
    net = network((20, 300, 3), n_samples=400)
    rates = np.random.default_rng(0).uniform(0, 0.01, (2, 4))
    alone, team = (Run(net, batch_size=100, n_threads=n) for n in (1, 2))
    alone.training.run(rates)
    team.training.run(rates)
    team.same_as(alone)


def test_a_batch_without_weight_has_its_place_among_the_rates():
    """So that the rate of a batch does not depend on the weights of those before it."""
    net = network(n_samples=15)
    weights = np.repeat([1.0, 0.0, 2.0], 5)
    run = Run(net, "adam", sample_weight=weights, shuffle=False)
    result = run.training.run([[0.01, 1e6, 0.02], [0.03, 1e6, 0.04]])
    assert result["step"] == 4
    keep = weights > 0
    few = replace(net, X=net.X[keep], y=net.y[keep])
    alone = Run(few, "adam", sample_weight=weights[keep], shuffle=False)
    alone.training.run([[0.01, 0.02], [0.03, 0.04]])
    run.same_as(alone)


def test_where_an_epoch_is_one_batch_both_forms_of_rates_agree():
    net = network(n_samples=10)
    by_epoch, by_step = Run(net, batch_size=10), Run(net, batch_size=10)
    by_epoch.training.run([0.01, 0.02])
    by_step.training.run([[0.01], [0.02]])
    by_step.same_as(by_epoch)
