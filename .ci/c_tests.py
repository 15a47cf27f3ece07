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


def load_setup():
    """The current folder's setup.py as a module; its guard keeps it from building anything."""
    spec = importlib.util.spec_from_file_location("fastbp_setup", Path("setup.py").resolve())
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


class Core:
    """The core of the checkout in the current folder, compiled, and programs linked to it."""

    def __init__(self, folder):
        self.folder = folder
        self.build = load_setup()
        self.compiler = native_compiler()
        objects = Path(folder, "objects")
        self.objects, self.toolchain = self.build.compile_backend(self.compiler, objects)

    def program(self, source):
        """Compiles a C file that has a main, links it to all objects, and gives its path."""
        made = self.compiler.compile(
            [str(source)],
            output_dir=self.folder,
            macros=self.toolchain.macros,
            include_dirs=self.build.INCLUDE_DIRS,
            extra_postargs=self.toolchain.own,
        )
        program = str(Path(self.folder, source.stem))
        self.compiler.link_executable(
            [*made, *self.objects],
            program,
            libraries=[] if self.toolchain.msvc else ["m"],
            extra_postargs=self.toolchain.link,
        )
        return program


def main(folder):
    core = Core(folder)
    failed = []
    programs = sorted(Path("tests", "c").glob("*.c"))
    for source in programs:
        status = subprocess.run([core.program(source)]).returncode
        print(f"{source}: {'ok' if status == 0 else f'failed with status {status}'}", flush=True)
        if status != 0:
            failed.append(source)
    print(f"{len(programs) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
