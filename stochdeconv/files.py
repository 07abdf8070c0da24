"""Files that are whole or not there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from stochdeconv.errors import InputError


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Put bytes into a file so that a reader sees the old file or the new one, never a part.

    Parameters
    ----------
    path : path-like
        Where to.
    content : bytes
        What.

    Raises
    ------
    InputError
        The folder cannot be written, or the disk is full.
    """
    path = Path(path)
    # Beside the target: a rename does not cross file systems.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {(error.strerror or str(error)).lower()}") from error
