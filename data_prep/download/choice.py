"""What a command line asks for, in the dataset's own terms: features, whole chunks, single clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from data_prep.download.options import DownloadOptions
from data_prep.download.tables import Tables
from data_prep.sources.camera_tables import EXTRINSICS, INTRINSICS
from data_prep.sources.clip_table import EGO_MOTION
from data_prep.sources.physical_ai import DEFAULT_CAMERA
from data_prep.zips import is_safe_name
from driving.errors import DrivingError, SourceError

CALIBRATION = (INTRINSICS, EXTRINSICS, "vehicle_dimensions")
SPARE_MEMBERS = ("blurred_boxes",)  # a clip is whole without them: no later stage reads them


@dataclass(frozen=True)
class Choice:
    """What to fetch.

    Attributes:
        cameras: features that clips are cut from.
        tables: calibration features: one small file a chunk.
        chunks: whole chunks.
        clips: chunk -> single clips of it.
    """

    cameras: tuple[str, ...]
    tables: tuple[str, ...]
    chunks: tuple[int, ...] = ()
    clips: Mapping[int, tuple[str, ...]] | None = None

    @property
    def archives(self) -> tuple[str, ...]:
        """The features whose chunks are zip archives; the small one first, so that a chunk's camera comes last."""
        return (EGO_MOTION, *self.cameras)


def check_asked(options: DownloadOptions) -> None:
    """Raise DrivingError where the flags name nothing, or two things at once."""
    if not (options.chunk or options.all or options.clips or options.clip):
        raise DrivingError("nothing is asked for; pass --chunk 0000 0001, --all, --clips 10 or --clip ID")
    if options.clip and (options.chunk or options.all or options.clips):
        raise DrivingError("--clip names single clips; leave --chunk, --all and --clips away, or ask in two commands")
    if options.chunk and options.all:
        raise DrivingError("--all fetches every chunk; leave --chunk away")
    if options.split and not options.clips:
        raise DrivingError(f"--split {options.split} chooses single clips; say how many with --clips N")


def plan_choice(options: DownloadOptions, tables: Tables) -> Choice:
    """Turn flags into features, chunks and clips of the dataset.

    Raises:
        SourceError: A camera, chunk or clip that the dataset does not have.
    """
    cameras = options.camera or (DEFAULT_CAMERA,)
    listed = set(tables.features.features_df.index)
    for camera in cameras:
        if camera not in tables.cameras:
            raise SourceError(f"the dataset has no camera {camera!r}; --camera may be: {', '.join(tables.cameras)}")
    if EGO_MOTION not in listed:
        raise SourceError(f"features.csv lists no {EGO_MOTION}: nothing could be labelled; name another --revision")
    choice = Choice(tuple(dict.fromkeys(cameras)), tuple(name for name in CALIBRATION if name in listed))
    if options.clip:
        return Choice(choice.cameras, choice.tables, clips=_find_clips(options.clip, tables))
    chunks = _check_chunks(options, tables)
    if options.clips:
        return Choice(choice.cameras, choice.tables, clips=_choose_clips(options, chunks, choice, tables))
    return Choice(choice.cameras, choice.tables, chunks=tuple(chunks))


def _check_chunks(options: DownloadOptions, tables: Tables) -> list[int]:
    there = tables.chunks
    if not options.chunk:
        return there
    asked = sorted({number for numbers in options.chunk for number in numbers})
    unknown = sorted(set(asked) - set(there))
    if unknown:
        raise SourceError(
            f"the dataset has no chunk {unknown[0]:04d}: it has {len(there):,}, from {there[0]:04d} to {there[-1]:04d}"
        )
    return asked


def _find_clips(clip_ids: Sequence[str], tables: Tables) -> dict[int, tuple[str, ...]]:
    for clip_id in clip_ids:
        if clip_id not in tables.clips.index:
            raise SourceError(f"clip_index.parquet of this revision lists no clip {clip_id!r}")
    return _group(tables.clips.loc[sorted(set(clip_ids))])


def _choose_clips(
    options: DownloadOptions, chunks: Sequence[int], choice: Choice, tables: Tables
) -> dict[int, tuple[str, ...]]:
    """The first valid clips that have every feature asked for, by chunk and id."""
    rows = tables.clips[tables.clips["chunk"].isin(chunks) & tables.clips["clip_is_valid"]]
    if options.split:
        if "split" not in rows.columns:
            raise SourceError("the dataset tells no splits at this revision; leave --split away")
        rows = rows[rows["split"] == options.split]
    for feature in choice.archives:
        if feature in tables.presence.columns:
            rows = rows[tables.presence[feature].reindex(rows.index, fill_value=True)]
    if rows.empty:
        raise SourceError("no valid clip of the chunks and split asked for has all of " + ", ".join(choice.archives))
    if len(rows) < options.clips:
        print(f"there are only {len(rows):,} such clips, {options.clips:,} were asked for", flush=True)
    rows = rows.rename_axis("clip_id").reset_index().sort_values(["chunk", "clip_id"]).head(options.clips)
    return _group(rows.set_index("clip_id"))


def _group(rows) -> dict[int, tuple[str, ...]]:
    return {int(chunk): tuple(sorted(map(str, clips.index))) for chunk, clips in rows.groupby("chunk")}


def chunk_path(tables: Tables, chunk: int, feature: str) -> str:
    """The file of a chunk's feature on the Hub, and here; "" where the chunk has none."""
    if feature in tables.chunk_presence.columns and not tables.chunk_presence.at[chunk, feature]:
        return ""
    return _check_name(tables.features.get_chunk_feature_filename(chunk, feature), feature)


def clip_members(tables: Tables, clip_id: str, feature: str) -> dict[str, str]:
    """The files of a clip inside the archive of its chunk, by kind."""
    members = tables.features.get_clip_files_in_zip(clip_id, feature)
    return {kind: _check_name(name, feature) for kind, name in members.items()}


def clip_target(chunk: int, feature: str, member: str) -> str:
    """Where a single clip's file lies here: the folders of an unpacked chunk."""
    folder = "ego_motion" if feature == EGO_MOTION else "camera"
    return f"{folder}_chunk_{chunk:04d}/{PurePosixPath(member).name}"


def table_target(chunk: int, feature: str) -> str:
    """Where a chunk's calibration lies beside the folders of an unpacked chunk."""
    return f"{feature}_chunk_{chunk:04d}.parquet"


def _check_name(name: str, feature: str) -> str:
    if not is_safe_name(name):
        raise SourceError(f"features.csv: a path of {feature} points outside the folder: {name!r}")
    return name
