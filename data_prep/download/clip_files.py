"""Single clips: which of their files are missing here, and how they are cut out of the chunk's archives."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from data_prep.download.choice import SPARE_MEMBERS, Choice, clip_members, clip_target
from data_prep.download.hub import Hub, HubFile
from data_prep.download.patience import FetchError
from data_prep.download.records import Records
from data_prep.download.remote_zip import RemoteZip
from data_prep.download.tables import Tables
from driving.whole_files import write_atomically

READ_BYTES = 1 << 20


@dataclass(frozen=True)
class ClipPart:
    """A clip's files of one feature.

    Attributes:
        targets: member of the chunk's archive -> path here.
        spare: members that the archive need not have.
    """

    clip_id: str
    chunk: int
    feature: str
    targets: Mapping[str, str]
    spare: frozenset[str]

    def is_here(self, root: Path, records: Records) -> bool:
        return all(
            records.is_kept(target) or (member in self.spare and not (root / target).exists())
            for member, target in self.targets.items()
        )


def plan_parts(tables: Tables, choice: Choice) -> list[ClipPart]:
    """Every clip's files, feature by feature, in the order of chunk and clip."""
    parts = []
    for chunk, clips in sorted((choice.clips or {}).items()):
        for clip_id in clips:
            for feature in choice.archives:
                members = clip_members(tables, clip_id, feature)
                targets = {member: clip_target(chunk, feature, member) for member in members.values()}
                spare = frozenset(member for kind, member in members.items() if kind in SPARE_MEMBERS)
                parts.append(ClipPart(clip_id, chunk, feature, targets, spare))
    return parts


class ChunkArchive:
    """The archive of one chunk's feature on the Hub, opened when it is first needed."""

    def __init__(self, hub: Hub, file: HubFile) -> None:
        self.hub, self.file = hub, file
        self.zip = RemoteZip(hub, file)

    def size(self, part: ClipPart) -> int:
        return self.zip.size(_list_members(self.zip, part))

    def fetch_part(
        self, part: ClipPart, root: Path, records: Records, force: bool, on_bytes: Callable[[int], None]
    ) -> None:
        """Fetch a clip's files of this feature; those that are here with the right CRC are kept.

        Raises:
            FetchError: A member is missing or damaged, also when the archive is opened anew.
        """
        try:
            self._fetch(self.zip, part, root, records, force, on_bytes)
        except FetchError:
            self._fetch(RemoteZip(self.hub, self.file), part, root, records, force, on_bytes)

    def _fetch(self, archive: RemoteZip, part: ClipPart, root: Path, records: Records, force: bool, on_bytes) -> None:
        names = _list_members(archive, part)
        if not force:
            names = [name for name in names if not _is_here(archive, name, root, part.targets[name], records)]

        def write(name: str, member: IO[bytes]) -> None:
            with write_atomically(root / part.targets[name]) as handle:
                shutil.copyfileobj(member, handle, READ_BYTES)
            records.add(part.targets[name], _describe_crc(archive, name))

        for name in names:
            records.announce(part.targets[name])
        archive.fetch(names, write, on_bytes)


def _list_members(archive: RemoteZip, part: ClipPart) -> list[str]:
    """The members to fetch; raises FetchError where the archive lacks one that a clip needs."""
    missing = [name for name in part.targets if name not in archive.members and name not in part.spare]
    if missing:
        raise FetchError(f"{archive.path} has no member {missing[0]}: the dataset holds no such file of this clip")
    return [name for name in part.targets if name in archive.members]


def _is_here(archive: RemoteZip, name: str, root: Path, target: str, records: Records) -> bool:
    digest = _describe_crc(archive, name)
    if records.is_kept(target, digest):
        return True
    path = root / target
    if not path.is_file() or path.stat().st_size != archive.members[name].file_size:
        return False
    crc = 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            crc = zlib.crc32(block, crc)
    if crc != archive.members[name].CRC:
        return False
    records.add(target, digest)
    return True


def _describe_crc(archive: RemoteZip, name: str) -> str:
    return f"crc32:{archive.members[name].CRC:08x}"
