"""Files that are written whole or not at all."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Named = str | os.PathLike[str]


@contextmanager
def replacing(path: Named) -> Iterator[Path]:
    """Where to write a file that takes the place of `path` at the end, if nothing was raised."""
    target = Path(path)
    # In the same folder, or the last step would not be one step.
    folder = tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent)
    try:
        made = Path(folder, target.name)
        made.touch()
        mode = stat.S_IMODE(made.stat().st_mode)
        yield made
        made.chmod(mode)  # as of any new file, whatever has written it
        with open(made, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(made, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
