"""What a run reads: which recordings, whether their files changed since, and which rate they give."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.segment_options import AUTO
from data_prep.segment_places import find_frame_times
from data_prep.segment_plan import highest_rate
from data_prep.sources import SOURCES
from driving.errors import DrivingError, SourceError
from driving.recording import RecordingRef
from driving.sampling import median_rate_hz
from driving.whole_files import dump_json
from video_io import probe_video


def fingerprint_inputs(refs: Sequence[RecordingRef]) -> list[str]:
    """A fingerprint of each recording: what the source says of it, and the sizes of its files.

    Times of modification are left out: they change when a data set is copied.
    """
    # Clips of all archives of a large dataset come in turn, by id: thousands of archives, asked for again and again.
    measure = lru_cache(maxsize=65_536)(_measure)

    def hash_input(ref: RecordingRef) -> str:
        files = [(name, measure(name)) for name in sorted(set(_find_names(ref.place)))]
        return hashlib.sha256(dump_json([asdict(ref), files]).encode()).hexdigest()

    return [hash_input(ref) for ref in refs]


def hash_inputs(fingerprints: Sequence[str]) -> str:
    """One fingerprint of all recordings of a run."""
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()


def _find_names(place: Any) -> Iterator[str]:
    if isinstance(place, str):
        yield place
    elif isinstance(place, dict):
        for value in place.values():
            yield from _find_names(value)
    elif isinstance(place, list | tuple):
        for value in place:
            yield from _find_names(value)


def _measure(name: str) -> int | str:
    """Bytes of a file, or of all files of a folder; "" for what is no file (the name of a member)."""
    path = Path(name)
    try:
        if path.is_file():
            return path.stat().st_size
        if name and path.is_dir():
            return sum(entry.stat().st_size for entry in path.iterdir() if entry.is_file())
    except (OSError, ValueError):
        pass  # a member name may be too long, or hold what no file name can
    return ""


def resolve_fps(fps: float | str, refs: Sequence[RecordingRef]) -> float:
    """The rate of the segments: as asked, or for "auto" the highest whole rate that most recordings give.

    Recordings that cannot be read do not vote; the lower of two equally common rates wins.

    Raises:
        SourceError: No recording tells a rate.
    """
    if fps != AUTO:
        return float(fps)
    votes: Counter[float] = Counter()
    for ref in refs:
        if ref.obstacle:
            continue
        try:
            recording = SOURCES[ref.source]().read(ref)
            times_us = recording.frame_times_us
            if times_us is None:
                times_us = find_frame_times(recording, probe_video(recording.video))
        except DrivingError:
            continue  # it gets its line in the ledger when it is cut
        votes[highest_rate(median_rate_hz(times_us))] += 1
    votes.pop(0.0, None)
    if not votes:
        raise SourceError("--fps auto: no recording tells how many frames a second it has; pass --fps as a number")
    return min(votes, key=lambda rate: (-votes[rate], rate))
