"""Zip archives read where they lie: member names checked by their letters, checksums checked by reading."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from driving.errors import SourceError
from driving.zip_contents import iter_member, read_contents
from driving.zip_errors import ZIP_ERRORS

MAX_TABLE_BYTES = 1 << 28  # a table of one recording is under 1 MB; more than 256 MB is not such a table


@dataclass(frozen=True)
class ZipListing:
    """The members of an archive.

    Attributes:
        names: members whose names stay inside a folder.
        unsafe: members whose names point outside ("../x", "/x", "c:x"); never opened.
        repeated: names that more than one member has.
    """

    names: frozenset[str]
    unsafe: tuple[str, ...]
    repeated: frozenset[str]

    def explain_absence(self, member: str) -> str:
        """Why a member cannot be used, or "" where it can."""
        if member in self.repeated:
            return f"two members are named {member}"
        if member in self.names:
            return ""
        base = PurePosixPath(member).name
        for name in self.unsafe:
            if PurePosixPath(name.replace("\\", "/")).name == base:
                return f"member {name!r} points outside the archive and is not opened"
        return f"there is no member {member}"


def is_safe_name(name: str) -> bool:
    """Whether a member name or a relative path stays inside the folder it is read from, judged by its letters alone."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not set("\\:\0") & set(name)


def list_zip(path: Path) -> ZipListing:
    """Read an archive's table of contents.

    Raises:
        SourceError: The file is cut short, or is no zip archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (*ZIP_ERRORS, OSError) as error:
        raise SourceError(f"{path} is not a whole zip archive ({error}); download it again") from error
    seen: set[str] = set()
    repeated = {name for name in names if name in seen or seen.add(name)}
    return ZipListing(
        names=frozenset(filter(is_safe_name, names)),
        unsafe=tuple(sorted(name for name in names if not is_safe_name(name))),
        repeated=frozenset(repeated),
    )


def read_member(path: Path, member: str) -> bytes:
    """All bytes of one small member; its checksum is checked on the way.

    Raises:
        SourceError: The archive or member is missing, damaged, encrypted, or too large for a table.
    """
    try:
        with path.open("rb") as archive:
            info = read_contents(archive)[member]
            if info.file_size > MAX_TABLE_BYTES:
                raise SourceError(f"{path}:{member} has {info.file_size:,} bytes, too many for one recording's table")
            return b"".join(iter_member(archive, info))
    except KeyError:
        raise SourceError(f"{path} has no member {member}; download the archive again") from None
    except (*ZIP_ERRORS, OSError) as error:
        raise SourceError(f"{path}:{member} cannot be read ({error}); download the archive again") from error
