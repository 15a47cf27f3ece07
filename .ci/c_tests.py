"""Builds and runs the C tests: every tests/c/*.c is a program that exits non-zero where it fails.

    .venv/bin/python .ci/c_tests.py FOLDER

compiles the core and each program into FOLDER, with the flags of setup.py, its environment
variables FASTBP_SANITIZE and FASTBP_WERROR included, links each program to all objects of the core,
and runs it from the root of the repository. No Python is inside the programs, so a debugger can
start them as they are.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def load_setup():
    """setup.py as a module; its guard keeps it from building anything."""
    spec = importlib.util.spec_from_file_location("fastbp_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def native_compiler():
    """The compiler that setuptools uses. Its distutils can be imported once setup.py has been."""
    from distutils.ccompiler import new_compiler
    from distutils.sysconfig import customize_compiler

    compiler = new_compiler()
    customize_compiler(compiler)
    return compiler


def main(folder):
    build = load_setup()
    compiler = native_compiler()
    objects, toolchain = build.compile_backend(compiler, Path(folder, "objects"))
    failed = []
    programs = sorted(Path("tests", "c").glob("*.c"))
    for source in programs:
        made = compiler.compile(
            [str(source)],
            output_dir=folder,
            macros=toolchain.macros,
            include_dirs=build.INCLUDE_DIRS,
            extra_postargs=toolchain.own,
        )
        program = str(Path(folder, source.stem))
        libraries = [] if toolchain.msvc else ["m"]
        compiler.link_executable(
            [*made, *objects], program, libraries=libraries, extra_postargs=toolchain.link
        )
        status = subprocess.run([program]).returncode
        print(f"{source}: {'ok' if status == 0 else f'failed with status {status}'}", flush=True)
        if status != 0:
            failed.append(source)
    print(f"{len(programs) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
