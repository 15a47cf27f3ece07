"""Builds the one extension, `fastbp._core._core`; all metadata stands in pyproject.toml.

The C core is compiled here rather than listed as sources of the extension, since setuptools
compiles each source once and with one set of flags. Files in cbackend/core are compiled once; files
in cbackend/ops once for each x86-64 level that the compiler knows, and the core picks a level at
run time. The C tests (.ci/c_tests.py) build the same objects through `compile_backend`.

Environment: FASTBP_WERROR=1 turns the warnings of our own C files into errors.
FASTBP_SANITIZE=address or =thread builds with sanitizers; thread wants CC=clang-19, since only
LLVM's OpenMP tells the sanitizer what it does.
"""

import hashlib
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BACKEND = Path("cbackend")
INCLUDE_DIRS = [str(BACKEND / "include"), str(BACKEND)]

# The one file in which the compiler may fuse multiply and add: each output element there is a
# single chain of them, so that tiles of any size give the same bits.
FUSED = BACKEND / "ops" / "gemm.c"

VARIANTS = {
    "v2": ["-march=x86-64-v2"],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Wconversion",
    "-Werror=implicit-function-declaration",
    "-Werror=incompatible-pointer-types",
]

# Neither of the two changes a result, NaN and infinity included; both let loops be vectorised.
MATHS = ["-fno-math-errno", "-fno-trapping-math"]

# gcc's -O1 lacks the pass that fuses multiply and add, and the matrix product's bits depend on it.
SANITIZERS = {
    "address": [
        "-fexpensive-optimizations",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
    ],
    "thread": ["-fsanitize=thread"],
}

OPENMP_CANDIDATES = [
    (["-fopenmp"], ["-fopenmp"]),
    (["-Xpreprocessor", "-fopenmp"], ["-lomp"]),  # Apple's clang, with libomp installed beside it
]


def sources(folder):
    """The C files of a folder of cbackend, relative to the root, in a fixed order."""
    return sorted((BACKEND / folder).glob("*.c"))


def headers():
    return sorted(BACKEND.rglob("*.h"))


def is_current(output, source):
    """Whether an object is younger than its source and every header that it was made from.

    The compiler has noted these beside it; without a note (another compiler, an old object) all
    headers count.
    """
    note = Path(output).with_suffix(".d")
    read = headers()
    if note.exists():
        read = [Path(name) for name in note.read_text().replace("\\\n", " ").split()[1:]]
    try:
        return os.path.getmtime(output) > max(p.stat().st_mtime for p in (source, *read))
    except OSError:  # no object, or a header that is no more
        return False


def builds(compiler, code, flags, link_flags=None):
    """Whether `code` compiles with `flags` and, where `link_flags` is given, links; quietly."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "probe.c"), Path(folder, "probe.o")
        source.write_text(code)
        commands = [[*compiler.compiler_so, *flags, "-c", source, "-o", output]]
        if link_flags is not None:
            commands.append([*compiler.linker_so, output, *link_flags, "-o", Path(folder, "probe")])
        return all(subprocess.run(c, capture_output=True).returncode == 0 for c in commands)


class Toolchain:
    """What one compiler can do: its flags, the kernel variants it builds, whether it has OpenMP."""

    def __init__(self, compiler):
        self.compiler = compiler
        self.msvc = compiler.compiler_type == "msvc"
        self.own, self.cython, self.link = self._flags()
        self.variants = {} if self.msvc else self._known_variants()
        if not self.variants:
            self.variants = {"base": []}
        self.macros = [(f"FBP_HAVE_{name.upper()}", "1") for name in self.variants]

    def _flags(self):
        """Flags of our own C files, of Cython's file, and of the link."""
        if self.msvc:
            return ["/std:c11", "/O2", "/fp:precise", "/openmp", "/W3"], ["/O2"], []
        sanitize = os.environ.get("FASTBP_SANITIZE", "")
        if sanitize not in ("", *SANITIZERS):
            raise ValueError(f"FASTBP_SANITIZE={sanitize!r}: found neither of {[*SANITIZERS]}")
        checks = SANITIZERS.get(sanitize, [])
        common = [*(["-O1", "-g"] if checks else ["-O3", "-g0"]), "-fvisibility=hidden", *checks]
        own = ["-std=c11", *common, *WARNINGS, *MATHS, "-MMD"]
        if os.environ.get("FASTBP_WERROR") == "1":
            own.append("-Werror")
        for openmp, link in OPENMP_CANDIDATES:
            code = "#include <omp.h>\nint probe(void) { return omp_get_max_threads(); }\n"
            if builds(self.compiler, code, openmp, link):
                return [*own, *openmp], common, [*checks, *link]
        return own, common, checks

    def _known_variants(self):
        code = "#ifndef __x86_64__\n#error another architecture\n#endif\nint probe;\n"
        return {n: flags for n, flags in VARIANTS.items() if builds(self.compiler, code, flags)}

    def jobs(self):
        """(source, name of its variant or "core", flags, macros) for each object to be made."""
        for source in sources("core"):
            yield source, "core", [*self.own, *self._contraction(source)], self.macros
        for source in sources("ops"):
            for name, flags in self.variants.items():
                flags = [*self.own, *self._contraction(source), *flags]
                yield source, name, flags, [*self.macros, ("FBP_VARIANT", name)]

    def _contraction(self, source):
        if self.msvc:
            return []
        return ["-ffp-contract=fast" if source == FUSED else "-ffp-contract=off"]


def compile_backend(compiler, build_dir):
    """Compile the C core, on all processors; give the objects and the toolchain to link them with.

    An object is made anew only where its source, a header of its or its flags have changed.
    """
    toolchain = Toolchain(compiler)

    def compile_one(job):
        source, name, flags, macros = job
        command = repr((getattr(compiler, "compiler_so", None), flags, macros))
        key = hashlib.sha256(command.encode()).hexdigest()[:12]
        folder = str(Path(build_dir, f"{name}-{key}"))
        (output,) = compiler.object_filenames([str(source)], output_dir=folder)
        if not is_current(output, source):
            compiler.compile(
                [str(source)],
                output_dir=folder,
                macros=macros,
                include_dirs=INCLUDE_DIRS,
                extra_postargs=flags,
            )
        return output

    if toolchain.msvc and not compiler.initialized:
        compiler.initialize()  # not safe from two threads at once
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, toolchain.jobs()))
    return objects, toolchain


class BuildExtension(build_ext):
    """Compiles the core, translates the Cython module, links the two."""

    def build_extension(self, ext):
        import numpy as np
        from Cython.Build import cythonize

        # Generated C and objects go to build/, out of the package and so out of the wheel.
        objects, toolchain = compile_backend(self.compiler, Path("build", "objects"))
        (translated,) = cythonize(
            [Extension(ext.name, ext.sources)],
            build_dir=str(Path("build", "cython")),
            include_path=[str(ROOT)],
            quiet=True,
        )
        ext.sources = translated.sources
        ext.include_dirs = [*INCLUDE_DIRS, np.get_include()]
        ext.define_macros = [("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")]
        ext.extra_compile_args = toolchain.cython
        ext.extra_link_args = toolchain.link
        ext.extra_objects = objects
        ext.libraries = [] if toolchain.msvc else ["m"]
        # setuptools would compare times only, and ship what other flags have made.
        self.force = True
        super().build_extension(ext)


if __name__ == "__main__":
    os.chdir(ROOT)
    module = Extension("fastbp._core._core", [str(Path("fastbp", "_core", "_core.pyx"))])
    setup(ext_modules=[module], cmdclass={"build_ext": BuildExtension})
