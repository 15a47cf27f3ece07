"""Fixtures that several test files share. Settings of pytest are in pyproject.toml, not here."""

import signal

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


@pytest.fixture
def leave_more_to_blas(force_isa):
    """The kernels of v4 leave only the very widest layers to BLAS: those of v3 instead."""
    if "v4" in _core.build_info()["isas"]:
        force_isa("v3")


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """Ctrl-C as in a terminal, also where a shell has started the suite in the background and so
    with the signal ignored: several tests press it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
