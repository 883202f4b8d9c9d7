"""Files that are whole or not there, and JSON in them: write_atomically writes beside the name, and renames."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from driving.errors import DrivingError, LedgerError


def dump_json(value: Any, indent: int | None = None) -> str:
    """JSON text that is the same on every machine: keys in the order given, no NaN, UTF-8 as it is."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


@contextlib.contextmanager
def write_atomically(path: Path, mode: str = "wb") -> Iterator[IO]:
    """Open a temporary file beside `path`; on success flush it to disk and rename it into place.

    On any error the temporary file is removed and `path` is untouched.

    Raises:
        LedgerError: The disk is full (with the path, and what to do), a file stands where the folder should, or
            something else than a file where the file should.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise LedgerError(f"{path} cannot be written, a file stands where its folder should; choose another") from error
    check_replaceable(path)
    encoding = None if "b" in mode else "utf-8"
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(descriptor)
    try:
        with explain_disk_full(path):
            with open(part, mode, encoding=encoding) as handle:  # a plain file: who writes by name finds it in `name`
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.chmod(part, 0o644)
            os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise


def check_replaceable(path: Path) -> None:
    """Raise where a file is to be renamed into the place of something else: for root, even of /dev/null.

    Raises:
        LedgerError: A folder, a device or a pipe has that name.
    """
    if path.is_dir():
        raise LedgerError(f"{path} is a folder, where a file is to be written; name a file in it")
    if path.absolute().parent == Path("/dev") or (path.exists() and not path.is_file()):
        raise LedgerError(f"{path} is no file but a device or a pipe, which would be replaced; name a file")


def write_text(path: Path, text: str) -> None:
    """Write a whole text file atomically, UTF-8."""
    with write_atomically(path, "w") as handle:
        handle.write(text)


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write a JSON file atomically, ending in a newline."""
    write_text(path, dump_json(value, indent) + "\n")


def read_json(path: Path, advice: str, error_type: type[DrivingError] = DrivingError) -> Any:
    """What a JSON file holds.

    Args:
        advice: what to do where it is damaged; the end of the message.

    Raises:
        error_type: It is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise error_type(f"{path} is not JSON ({error}); {advice}") from error


@contextlib.contextmanager
def explain_disk_full(path: Path) -> Iterator[None]:
    """Turn "no space left on device" into one line that says where and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (28, 122):  # ENOSPC, EDQUOT
            raise
        raise LedgerError(
            f"the disk is full while writing {path}; make room and run the same command again to continue"
        ) from error


def remove_halves(path: Path) -> None:
    """Delete what killed runs left half written of one file; the caller sees to it that nobody is writing it."""
    for half in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        half.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed run, or a killed worker of this one, left behind."""
    for leftover in folder.rglob(".*.part"):
        leftover.unlink(missing_ok=True)
