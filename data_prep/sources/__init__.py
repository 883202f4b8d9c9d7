"""Recording formats, one file each: what turns a folder into recordings.

find_source("auto", root) ──recognises──▶ a Source ──plan──▶ refs ──read──▶ Recording
"""

from __future__ import annotations

from pathlib import Path

from data_prep.sources.bdd100k import Bdd100k
from data_prep.sources.comma2k19 import Comma2k19
from data_prep.sources.folder import VideoFolder
from data_prep.sources.kitti import Kitti
from data_prep.sources.physical_ai import PhysicalAI
from driving.errors import SourceError
from driving.recording import Source

# In the order in which "auto" asks them: a folder of videos is what is left when nothing else is recognised.
SOURCES: dict[str, type] = {source.name: source for source in (PhysicalAI, Kitti, Comma2k19, Bdd100k, VideoFolder)}


def find_source(name: str, root: Path) -> Source:
    """The source called `name`, or for "auto" the first that recognises the folder.

    Raises:
        SourceError: The name or the folder is unknown; says which layouts were looked for.
    """
    if name != "auto":
        if name not in SOURCES:
            raise SourceError(f"source {name!r} is not known; there are: auto, {', '.join(SOURCES)}")
        return SOURCES[name]()
    if not root.exists():
        raise SourceError(f"{root} does not exist; give the folder that holds the recordings")
    for source in (kind() for kind in SOURCES.values()):
        if source.recognises(root):
            return source
    layouts = "; ".join(f"{kind.name}: {kind.layout}" for kind in SOURCES.values())
    raise SourceError(f"{root} holds no recordings of a known layout; looked for {layouts}")
