"""Fixtures that several test files share. Settings of pytest are in pyproject.toml, not here."""

import numpy as np
import pytest

from fastbp import _core


@pytest.fixture
def rng():
    """A generator that starts anew for every test."""
    return np.random.default_rng(0)


@pytest.fixture
def force_isa():
    """`_core.set_isa`; the engine's own choice is restored after the test."""
    yield _core.set_isa
    _core.set_isa(None)
