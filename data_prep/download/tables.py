"""The dataset's own tables, verified, and read by the dataset's own devkit (`physical_ai_av`).

They lie in .download/hub as the Hub's cache would hold them: the devkit then reads what was verified, not what it
fetches by itself, which nothing checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.download.hub import Hub
from data_prep.download.records import STATE, Records
from data_prep.download.whole_file import fetch_file, is_whole
from data_prep.segment_options import DEFAULT_SPLIT
from data_prep.zips import is_safe_name
from driving.errors import DrivingError, SourceError

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("features.csv", "clip_index.parquet")
FOLDERS = ("metadata", "splits")


@dataclass(frozen=True)
class Tables:
    """What the dataset says of itself at one commit.

    Attributes:
        folder: where the tables lie, in the dataset's own folders.
        names: the tables, relative to it.
        clips: clip_id -> chunk, clip_is_valid, split.
        presence: clip_id -> one bool a feature.
        chunk_presence: chunk -> one bool a feature.
        features: the devkit's names of archives and of the files in them.
    """

    folder: Path
    names: tuple[str, ...]
    clips: pd.DataFrame
    presence: pd.DataFrame
    chunk_presence: pd.DataFrame
    features: Any

    @property
    def chunks(self) -> list[int]:
        """Every chunk that the dataset has, sorted."""
        return sorted(int(chunk) for chunk in self.clips["chunk"].unique())

    @property
    def cameras(self) -> list[str]:
        table = self.features.features_df
        return sorted(table.index[table["directory"] == "camera"])


def load_tables(hub: Hub, root: Path, records: Records, split_name: str) -> Tables:
    """Fetch the tables that are not here yet, check all, and let the devkit read them.

    Raises:
        SourceError: The dataset has no such split table, or its tables cannot be read.
        AccessError, FetchError: The hub does not give them.
        DrivingError: The devkit is not installed.
    """
    cache = f"{STATE}/hub/datasets--{hub.repo_id.replace('/', '--')}/snapshots/{hub.commit}"
    files = [*hub.describe_files(NEEDED).values(), *(file for name in FOLDERS for file in hub.list_files(name))]
    names = [file.path for file in files]
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise SourceError(f"{hub.repo_id} holds no {missing[0]}: it is no copy of PhysicalAI-AV; look at --repo-id")
    outside = [name for name in names if not is_safe_name(name)]
    if outside:
        raise SourceError(f"{hub.repo_id} lists a table that points outside the folder: {outside[0]!r}")
    _check_split_name(names, split_name, hub)
    for file in files:
        if not is_whole(root, f"{cache}/{file.path}", file, records):
            fetch_file(hub, file, root, f"{cache}/{file.path}", records)
    reader = _open_devkit(hub, root, split_name)
    clips = reader.clip_index
    if "clip_is_valid" in clips.columns:
        clips["clip_is_valid"] = clips["clip_is_valid"].fillna(False).astype(bool)
    else:
        clips["clip_is_valid"] = True
    return Tables(
        root / cache, tuple(names), clips, reader.feature_presence, reader.chunk_feature_presence, reader.features
    )


def _check_split_name(names: Sequence[str], split_name: str, hub: Hub) -> None:
    there = sorted(Path(name).stem for name in names if name.startswith("splits/"))
    if split_name != DEFAULT_SPLIT and split_name not in there:
        raise SourceError(
            f"{hub.repo_id} has no splits/{split_name}.parquet at this revision; "
            f"--split-name may be: {', '.join(there) or DEFAULT_SPLIT}"
        )


def _open_devkit(hub: Hub, root: Path, split_name: str) -> Any:
    try:
        from physical_ai_av import PhysicalAIAVDatasetInterface
    except ImportError as error:
        raise DrivingError(
            f"NVIDIA's devkit of the dataset is not installed ({error}); run uv sync --inexact --extra download"
        ) from error

    def read() -> Any:
        try:
            return PhysicalAIAVDatasetInterface(
                revision=hub.commit,
                repo_id=hub.repo_id,
                cache_dir=root / STATE / "hub",
                confirm_download_threshold_gb=float("inf"),
                split_name=split_name,
            )
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise SourceError(
                f"the tables of {hub.repo_id} at {hub.commit[:12]} are not as the devkit knows them "
                f"({type(error).__name__}: {error}); update physical_ai_av, or name an older --revision"
            ) from error

    return hub.ask(read, "the tables that the devkit looks for")
