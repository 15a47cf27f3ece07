"""The folders are layers: imports point down only, formulas and threads have one place each.

The tests read the sources as text and trees; nothing of the package is run.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, BACKEND = ROOT / "fastbp", ROOT / "cbackend"

# A module may import from the rooms named beside its own, and from its own. Rooms are folders of
# the package, or single modules on its top floor.
BELOW = {
    "errors": set(),
    "_core": {"errors"},
    "ops": {"_core", "errors"},
    # The record knows no tensors; tensors are above it, and above them what is made of tensors.
    "autodiff": {"ops"},
    "recompute": {"autodiff"},
    "tensor": {"autodiff", "ops"},
    "transforms": {"tensor", "autodiff", "ops"},
    "function": {"tensor", "autodiff", "ops", "gradcheck", "gradreport"},
    "nn": {"function", "tensor", "recompute", "autodiff", "ops", "_core", "errors"},
    "optim": {"ops", "_core", "errors"},
    "train": {"nn", "optim", "ops", "_core", "errors"},
    "estimators": {"train", "nn", "optim", "ops", "_core", "errors"},
    # The gradient check knows estimators only by what they offer.
    "findings": {"nn"},
    "diagnosis": {"findings", "train", "nn", "_core"},
    # Pictures of estimators; estimators know nothing of them.
    "displays": {"diagnosis", "findings", "estimators"},
    "gradreport": set(),
    "gradcheck": {"gradreport", "ops", "_core", "errors"},
    "testing": {"ops", "_core"},
    # The front door and the demo stand on all of it.
    "__init__": {
        *("autodiff", "diagnosis", "displays", "errors", "estimators", "function", "gradcheck"),
        *("nn", "ops", "recompute", "tensor", "train", "transforms"),
    },
    "demo": {"__init__", "gradreport"},
}

MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
CYTHON = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".pyx", ".pxd", ".pyi"))
C_FILES = sorted(path for path in BACKEND.rglob("*") if path.suffix in (".c", ".h"))


def named(path):
    return path.relative_to(ROOT).as_posix()


def room(path):
    """The folder of the package in which a file lies; on the top floor, its own name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def room_of_import(dotted):
    """fastbp.nn.rows is in the room nn; a name of the package itself is at the front door."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else "__init__"


def imported(source):
    """Dotted names of what a Python module imports from the package, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "fastbp")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in line {node.lineno}"
            if node.module.split(".")[0] == "fastbp":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(path, dotted_names):
    """The imports of a file that do not point down."""
    own = room(path)
    allowed = BELOW[own] | {own}
    return [name for name in dotted_names if room_of_import(name) not in allowed]


def test_every_file_has_its_room():
    assert {room(path) for path in [*MODULES, *CYTHON]} <= set(BELOW)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_python_imports_point_down(path):
    assert upward(path, imported(path.read_text())) == []


@pytest.mark.parametrize("path", CYTHON, ids=named)
def test_cython_imports_point_down(path):
    found = re.findall(r"^\s*(?:from|import|cimport)\s+(fastbp[\w.]*)", path.read_text(), re.M)
    assert upward(path, found) == []


def test_an_upward_import_would_be_found():
    path = PACKAGE / "nn" / "network.py"
    for line, caught in {
        "from fastbp.estimators.base import BaseMLP": True,
        "import fastbp.train.state": True,
        "from fastbp import MLPClassifier": True,
        "def f():\n    from fastbp.train import state": True,
        "from fastbp import _core": False,
        "from fastbp.nn.rows import rows": False,
        "import numpy as np": False,
    }.items():
        assert bool(upward(path, imported(line))) is caught, line


# ---------------------------------------------------------------------------------------- formulas

TRANSCENDENTAL = (
    r"exp|exp2|expm1|log|log2|log10|log1p|sin|cos|tan|sinh|cosh|tanh|erf|erfc|pow|tgamma"
)
NUMPY_FORMULAS = set(TRANSCENDENTAL.split("|")) - {"exp2", "log2"} | {
    *("expit", "logaddexp", "logsumexp", "softmax", "log_softmax", "ndtr", "xlogy", "power"),
}


def calls_of_formulas(source):
    """Attributes such as np.exp, and names such as expit, that a module calls."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name in NUMPY_FORMULAS:
                yield name


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_python_holds_no_formula(path):
    assert not set(calls_of_formulas(path.read_text()))


def code_of(path):
    """A C file without comments and strings."""
    text = re.sub(r"/\*.*?\*/", " ", path.read_text(), flags=re.S)
    return re.sub(r'"(?:\\.|[^"\\\n])*"', '""', re.sub(r"//[^\n]*", " ", text))


def calls_of_c_formulas(code):
    return re.findall(rf"(?<![\w.>)])(?:{TRANSCENDENTAL})f?\s*\(", code)


@pytest.mark.parametrize(
    "path", [path for path in C_FILES if path.parent.name in ("core", "ops", "include")], ids=named
)
def test_c_formulas_are_in_math(path):
    """Outside math/ nothing calls exp and the like; the kernels take them from the templates."""
    assert calls_of_c_formulas(code_of(path)) == []


@pytest.mark.parametrize("path", [p for p in C_FILES if p.parent.name == "core"], ids=named)
def test_the_mechanism_includes_no_formula(path):
    """Random numbers are its own business: shuffling is mechanism, math/rng.h their one formula."""
    allowed = {"math/rng.h"} if path.name == "rng.c" else set()
    assert set(re.findall(r'#include "(math/[^"]+)"', path.read_text())) <= allowed


@pytest.mark.parametrize("path", [p for p in C_FILES if p.parent.name == "math"], ids=named)
def test_math_is_nothing_but_formulas(path):
    """No loop over elements, no allocation, no thread, no BLAS."""
    code = code_of(path)
    assert re.findall(r"\b(?:malloc|calloc|realloc|free)\b", code) == []
    assert re.findall(r"\b(?:for|while)\s*\(\s*(?:int64_t|size_t)", code) == []
    assert re.findall(r"#\s*pragma\s+omp|\bomp_|pthread|gemm", code) == []
    assert re.findall(r'#include "(?!math/)', path.read_text()) == []


# ----------------------------------------------------------------------------------------- threads


def test_one_file_owns_openmp():
    """Kernels are serial and know nothing of threads."""
    owners = {
        path.name
        for path in C_FILES
        if re.search(r"#\s*pragma\s+omp|#\s*include\s*<omp\.h>|\bomp_\w+\s*\(", code_of(path))
        or "<omp.h>" in path.read_text()
    }
    assert owners == {"parallel.c"}


@pytest.mark.parametrize("path", [p for p in C_FILES if p.parent.name == "ops"], ids=named)
def test_kernels_allocate_nothing_and_end_nothing(path):
    assert re.findall(r"\b(?:malloc|calloc|realloc|free)\s*\(", code_of(path)) == []


@pytest.mark.parametrize("path", C_FILES, ids=named)
def test_the_core_never_ends_the_process_or_prints(path):
    assert (
        re.findall(r"\b(?:abort|exit|_exit|assert|printf|fprintf|puts)\s*\(", code_of(path)) == []
    )


def test_the_binding_names_no_row():
    """What Python knows of rows it reads from the table; "identity" is also the name of a link."""
    lists = "".join(
        (BACKEND / "math" / f"{stem}.h").read_text() for stem in ("activations", "losses")
    )
    lists += (BACKEND / "math" / "optimizers.h").read_text()
    rows = set(re.findall(r"^\s*(?:ROW|LOSS|RULE)\w*\((\w+),", lists, re.M))
    assert {"relu", "huber", "adam"} <= rows
    binding = (PACKAGE / "_core" / "_core.pyx").read_text()
    quoted = set(re.findall(r"[\"'](\w+)[\"']", binding))
    assert quoted & (rows - {"identity"}) == set()
