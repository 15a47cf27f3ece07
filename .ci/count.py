"""Counts the instructions that the core executes, by callgrind: they have no noise, as times have.

    .venv/bin/python .ci/count.py           compares; exits non-zero where a count has grown
    .venv/bin/python .ci/count.py update    writes benchmarks/count/counts.json

Counts of different compilers or flags say nothing about each other. Where the file's are not the
ones found here, the commit before is built too and takes the file's place; what has grown is then
accepted if the file has changed since.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from c_tests import Core

DRIVER = Path("benchmarks", "count", "driver.c")
RECORD = Path("benchmarks", "count", "counts.json")
OBJECTS = "build/c"  # the same as the C tests', compiled once for both
ISA = "v3"  # valgrind knows no AVX-512
LIMIT = 1.0  # per cent that a count may grow

CALLGRIND = [
    "valgrind",
    "--quiet",
    "--tool=callgrind",
    "--toggle-collect=counted",  # the driver's function that makes the call
    "--compress-strings=no",
    "--compress-pos=no",
]


def in_object(profile, name):
    """Instructions of the functions that lie in one object, from what callgrind writes.

    A line of two numbers is a cost, in the object that the last `ob=` names; after `calls=` it
    is what the callee has been counted with already.
    """
    total, object_name, previous = 0, "", ""
    for line in profile.splitlines():
        if line.startswith("ob="):
            object_name = Path(line[3:]).name
        own_cost = re.fullmatch(r"\d+ (\d+)", line)
        if own_cost and object_name == name and not previous.startswith("calls="):
            total += int(own_cost[1])
        previous = line
    return total


def count(program, case):
    """Instructions of one case. Other objects, such as the C library, differ between machines."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profile")
        command = [*CALLGRIND, f"--callgrind-out-file={profile}", program, ISA, case]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(f"count: '{case}' on {ISA} under valgrind: {run.stderr.strip()}")
        found = in_object(profile.read_text(), Path(program).name)
    if found == 0:
        raise SystemExit(f"count: '{case}': found no instructions, wanted those of counted()")
    return found


def counts(core):
    """Instructions of each case that the driver has."""
    program = core.program(DRIVER)
    listed = subprocess.run([program], capture_output=True, text=True, check=True)
    cases = listed.stdout.splitlines()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(cases, pool.map(lambda case: count(program, case), cases), strict=True))


def made_with(core):
    """The compiler, and those of its flags that may change what the kernels become."""
    command = core.compiler.compiler_so
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    name = re.sub(r"^\S*-(?=gcc|cc|clang)", "", version.stdout.splitlines()[0])
    kernels = next(flags for _, variant, flags, _ in core.toolchain.jobs() if variant == ISA)
    flags = [f for f in [*command[1:], *kernels] if not re.match(r"-[gIW]|-MMD$|-f.*-map=", f)]
    return {"compiler": name, "flags": " ".join(flags)}


def git(*arguments):
    return subprocess.run(["git", *arguments], capture_output=True, text=True)


def commit_before():
    """HEAD if the working tree differs from it, else its parent; None where there is none."""
    changed = git("diff", "--quiet", "HEAD").returncode != 0
    before = "HEAD" if changed else "HEAD~1"
    return git("rev-parse", "--verify", "--quiet", before).stdout.strip() or None


def counts_of(commit):
    """The counts of a commit's core, for the cases that the driver has now."""
    with tempfile.TemporaryDirectory(dir="build") as folder:
        tree = Path(folder, "tree")
        added = git("worktree", "add", "--detach", str(tree), commit)
        if added.returncode != 0:
            raise SystemExit(f"count: {added.stderr.strip()}")
        try:
            tree.joinpath(DRIVER).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(DRIVER, tree / DRIVER)
            with contextlib.chdir(tree):
                return counts(Core(OBJECTS))
        finally:
            git("worktree", "remove", "--force", str(tree))


def compare(before, found, title):
    """Prints both, and gives the cases that have grown too much."""
    print(f"{'case':33}{title:>14}{'found':>14}{'change':>11}")
    grown = []
    for case, now in found.items():
        then = before.get(case)
        change = "new" if then is None else f"{100.0 * (now - then) / then:+.2f} %"
        print(f"{case:33}{then or '':>14}{now:>14}{change:>11}")
        if then is not None and now > then * (1.0 + LIMIT / 100.0):
            grown.append(case)
    return grown


def compare_with_commit(found):
    """What has grown since the commit before, unless the file has changed along with it."""
    commit = commit_before()
    if commit is None:
        print("count: no commit before this one, nothing to compare with")
        return []
    if git("diff", "--quiet", commit, "--", str(RECORD)).returncode != 0:
        print(f"count: {RECORD} has changed since {commit[:10]}, so growth is accepted")
        return []
    return compare(counts_of(commit), found, commit[:10])


def main(update):
    core = Core(OBJECTS)
    found, made = counts(core), made_with(core)
    if update:
        RECORD.write_text(json.dumps({**made, "counts": found}, indent=2) + "\n")
        return 0
    record = json.loads(RECORD.read_text())
    recorded = record.pop("counts")
    if made == record:
        wrong = [f"{case} has grown" for case in compare(recorded, found, "recorded")]
        wrong += [
            f"{case} is in only one of {RECORD} and the driver"
            for case in sorted(recorded.keys() ^ found.keys())
        ]
    else:
        for what, here in made.items():
            if here != record[what]:
                print(f"{what}: {here}\n  recorded: {record[what]}")
        wrong = [f"{case} has grown" for case in compare_with_commit(found)]
    for sentence in wrong:
        print(f"count: {sentence}")
    if wrong:
        print(f"more than {LIMIT:g} % is too much; where it is meant, run `make count-update`")
    return 1 if wrong else 0


if __name__ == "__main__":
    if shutil.which("valgrind") is None:
        sys.exit("count: found no valgrind (Debian: valgrind)")
    sys.exit(main(sys.argv[1:] == ["update"]))
