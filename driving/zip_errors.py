"""What reading a zip archive may raise where the archive is damaged, cut short, encrypted, or of a kind not known."""

from __future__ import annotations

import zipfile
import zlib

try:
    from lzma import LZMAError
except ImportError:  # a Python built without it cannot open such a member, and says so as a RuntimeError
    LZMAError = zlib.error

# RuntimeError: a member that is encrypted, and (as NotImplementedError) a compression that this Python does not have.
# An OSError is not here: it may be the disk's, or the network's, own.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, RuntimeError)
