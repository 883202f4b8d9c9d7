"""Disks that fill up while weights are written: the libraries each say it in their own words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from driving.errors import LedgerError
from driving.whole_files import explain_disk_full

# safetensors passes the system's words on; torch only says that its zip writer could not write.
FULL_DISK_WORDS = ("No space left on device", "Disk quota exceeded", "inline_container.cc", "iostream error")


@contextlib.contextmanager
def explain_failed_save(folder: Path) -> Iterator[None]:
    """Turn a full disk under safetensors, torch.save or plain files into one line; other errors stay what they are.

    Raises:
        LedgerError: The disk is full; what was half written is passed over when the run is continued.
    """
    try:
        with explain_disk_full(folder):
            yield
    except LedgerError:
        raise
    except Exception as error:
        if not any(words in str(error) for words in FULL_DISK_WORDS):
            raise
        raise LedgerError(
            f"the disk is full while writing {folder}; make room and run the same command again to continue"
        ) from error
