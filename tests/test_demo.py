"""The demo: what it claims of the curve, its table, its picture, and a run without matplotlib."""

import sys

import pytest

from fastbp import demo


@pytest.fixture(scope="module")
def tasks():
    return demo.digits(epochs=30), demo.curve()


def test_curve_beats_the_hand_written_class(tasks):
    # A guide's plain NumPy class, with these sizes, this rate and these epochs, ends at 0.00996.
    _, curve = tasks
    assert curve.ours.score < 0.00996
    assert curve.ours.model.n_iter_ == curve.theirs.model.n_iter_ == demo.CURVE_EPOCHS


def test_both_libraries_learn_the_same(tasks):
    digits, curve = tasks
    # Of 450 digits some 4 % are wrong: a difference has a standard deviation of 0.013.
    assert abs(digits.ours.score - digits.theirs.score) < 0.05
    assert abs(curve.ours.score - curve.theirs.score) < 2e-3
    assert digits.gradients.ok
    assert curve.gradients.ok


def test_table_fits_a_terminal(tasks):
    lines = demo.table(tasks).splitlines()
    assert max(map(len, lines)) < 80
    assert {line[2:].split("  ")[0] for line in lines} >= {
        "epochs",
        "seconds",
        "mean squared error",
    }


def test_picture(tasks, tmp_path):
    path = tmp_path / "picture.png"
    demo.draw(*tasks, path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def quick(monkeypatch, tasks):
    digits, curve = tasks
    monkeypatch.setattr(demo, "digits", lambda: digits)
    monkeypatch.setattr(demo, "curve", lambda: curve)


def test_command(quick, tmp_path, capsys):
    path = tmp_path / "picture.svg"
    assert demo.main([str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert path.exists()


def test_without_matplotlib_the_table_still_comes(quick, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert demo.main([str(tmp_path / "picture.png")]) == 0
    out = capsys.readouterr().out
    assert "fastbp[plot]" in out
    assert "mean squared error" in out


def test_folder_that_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit):
        demo.main([str(tmp_path / "nowhere" / "picture.png")])
    assert "found no folder" in capsys.readouterr().err
