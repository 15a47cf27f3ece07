"""Says in one line what this machine lacks to build fastbp; silent where it lacks nothing.

It runs before there is any virtual environment, under whatever `python3` happens to be, so it uses
the standard library only and no syntax newer than Python 3.0 (and 2.7).
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile


def has_module(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def compiles(command, code):
    """Whether `command`, a list, compiles the C program `code`."""
    folder = tempfile.mkdtemp()
    try:
        source = os.path.join(folder, "probe.c")
        with open(source, "w") as file:
            file.write(code)
        output = os.path.join(folder, "probe.o")
        with open(os.devnull, "w") as quiet:
            command = command + ["-c", source, "-o", output]
            return subprocess.call(command, stdout=quiet, stderr=quiet) == 0
    except OSError:
        return False
    finally:
        shutil.rmtree(folder)


def missing():
    """What is lacking, as (what, Debian's package) pairs."""
    # An old interpreter is reported alone: what else it lacks does not matter.
    if sys.version_info < (3, 11):
        found = ".".join(map(str, sys.version_info[:3]))
        return [("Python 3.11 or newer (found {})".format(found), "python3")]
    lacks = []
    if not (has_module("venv") and has_module("ensurepip")):
        lacks.append(("Python's venv", "python3-venv"))
    # The compiler that setuptools will use: $CC, or the one that Python itself was built with.
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if not compiles(compiler, "#include <stdio.h>\n"):
        lacks.append(("a C compiler (tried {})".format(compiler[0]), "gcc libc6-dev"))
    headers = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(headers):
        lacks.append(("Python's headers ({})".format(headers), "python3-dev"))
    return lacks


lacks = missing()
if lacks:
    sys.exit(
        "fastbp needs {}; Debian's packages: {}".format(
            " and ".join(what for what, _ in lacks), " ".join(package for _, package in lacks)
        )
    )
