"""Recording ids that are safe as file names, and the faults that more than one source can find in a listing."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from driving.errors import SourceError
from driving.recording import RecordingRef

MAX_ID_LENGTH = 120  # leaves room for "_seg_0000.mp4" in the 255 bytes of a file name, also with 2-byte letters


def make_id(label: str) -> str:
    """A label (a relative path, a route name) as a file name: letters, digits, '.', '_' and '-'; never hidden."""
    name = re.sub(r"[^\w.-]+", "_", label.replace("/", "__"), flags=re.ASCII).lstrip(".-")
    return (name if len(name) <= MAX_ID_LENGTH else _with_hash(name, label)) or _with_hash("", label)


def make_ids(labels: Sequence[str]) -> list[str]:
    """Ids for different labels: unique, and the same whatever else is listed unless two labels meet in one name."""
    ids = [make_id(label) for label in labels]
    count = Counter(ids)
    return [_with_hash(name, label) if count[name] > 1 else name for name, label in zip(ids, labels, strict=True)]


def _with_hash(name: str, label: str) -> str:
    return f"{name[: MAX_ID_LENGTH - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def mark_repeated(refs: Sequence[RecordingRef], places: Sequence[str]) -> list[RecordingRef]:
    """Give every ref whose id another one has too a fault that names both places; sorted by id, then place."""
    by_id: dict[str, list[str]] = defaultdict(list)
    for ref, place in zip(refs, places, strict=True):
        by_id[ref.recording_id].append(place)
    marked = []
    for ref, place in zip(refs, places, strict=True):
        if len(by_id[ref.recording_id]) > 1:
            both = " and ".join(sorted(by_id[ref.recording_id]))
            ref = replace(ref, fault=f"two recordings have the id {ref.recording_id}: {both}; remove one of them")
        marked.append((ref.recording_id, place, ref))
    return [ref for _, _, ref in sorted(marked, key=lambda entry: entry[:2])]


def check_usable(ref: RecordingRef) -> None:
    """Raise SourceError where the listing already says why it cannot be used."""
    if ref.obstacle:
        raise SourceError(f"recording {ref.recording_id}: {ref.obstacle}")


def check_camera(camera: str, known: Sequence[str], root: Path) -> None:
    """Raise SourceError for a camera that is not there, naming those that are."""
    if camera not in known:
        there = ", ".join(sorted(known)) or "none"
        raise SourceError(f"camera {camera!r} is not in {root}; there is: {there}; choose one with --camera")
