"""Prints the packages that pyproject.toml lists under a name, one a line.

`build` is what building and running the package takes; any other name is an extra. So the lists
stand in pyproject.toml alone.
"""

import re
import sys
import tomllib
from pathlib import Path


def wanted(name, table):
    """Requirements of `name`; where it names extras of the project itself, their lists."""
    project = table["project"]
    if name == "build":
        return [*table["build-system"]["requires"], *project["dependencies"]]
    packages = []
    for requirement in project["optional-dependencies"][name]:
        own = re.fullmatch(rf"{project['name']}\[(.*)\]", requirement)
        if own is None:
            packages.append(requirement)
        else:
            for extra in own[1].split(","):
                packages += wanted(extra, table)
    return packages


if __name__ == "__main__":
    with open(Path(__file__).parents[1] / "pyproject.toml", "rb") as file:
        print(*wanted(sys.argv[1], tomllib.load(file)), sep="\n")
