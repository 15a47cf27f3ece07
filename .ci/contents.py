"""Checks what the archives in a folder hold: `python .ci/contents.py FOLDER`.

The wheel has the typed package and its one extension, and no sources of it; the sdist has what it
takes to build, test and measure.
"""

import sys
import tarfile
import zipfile
from pathlib import Path

SOURCE_SUFFIXES = (".c", ".h", ".pyx", ".pxd")
WHEEL_NEEDS = ("fastbp/py.typed", "fastbp/_core/_core.pyi")
SDIST_NEEDS = ("cbackend/include/fbp.h", "fastbp/_core/_core.pyx", "Makefile", "LICENSE")
SDIST_FOLDERS = ("tests/", "tests/c/", "benchmarks/", ".ci/")


def problems(folder):
    (wheel,) = Path(folder).glob("*.whl")
    (sdist,) = Path(folder).glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    found = [f"{wheel.name} holds {n}" for n in names if n.endswith(SOURCE_SUFFIXES)]
    stray = {n.split("/")[0] for n in names if not n.startswith(("fastbp/", "fastbp-"))}
    found += [f"{wheel.name} installs {n}" for n in sorted(stray)]
    found += [f"{wheel.name} lacks {n}" for n in WHEEL_NEEDS if n not in names]
    with tarfile.open(sdist) as archive:
        names = [n.partition("/")[2] for n in archive.getnames()]
    found += [f"{sdist.name} lacks {n}" for n in SDIST_NEEDS if n not in names]
    for needed in SDIST_FOLDERS:
        if not any(n.startswith(needed) for n in names):
            found.append(f"{sdist.name} lacks {needed}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(problems(sys.argv[1])) or 0)
