"""What PhysicalAI-AV says about its clips beside the recordings: chunk, split, validity, presence, metadata.

clip_index.parquet                    clip_id -> chunk, split, clip_is_valid
splits/<name>.parquet                 clip_id -> split; wins over the index's column (devkit 0.2 and later)
metadata/feature_presence.parquet     clip_id -> one bool a feature (before 26.03: sensor_presence.parquet)
metadata/data_collection.parquet      clip_id -> country, hour_of_day, platform_class, ...
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.segment_options import DEFAULT_SPLIT
from driving.errors import SourceError

if TYPE_CHECKING:
    import pandas as pd

EGO_MOTION = "egomotion"  # the feature's name
SPLITS = ("train", "val", "test")
NOT_VALID = "clip_index.parquet says clip_is_valid = False"
INFINITE = (float("inf"), float("-inf"))  # JSON has no such number


def explain_absent(feature: str) -> str:
    """Why a clip is left out whose presence table denies it a feature that is needed."""
    return f"the dataset's presence table says that this clip has no {feature}"


@dataclass(frozen=True)
class ClipFacts:
    """What the dataset says about one clip.

    Attributes:
        chunk: the number of the archive it is in.
        split: "train", "val", "test", or "" where the dataset does not say.
        is_valid: `clip_is_valid` of the index.
        absent_features: features that the dataset says this clip does not have.
        metadata: plain JSON values.
    """

    clip_id: str
    chunk: int
    split: str = ""
    is_valid: bool = True
    absent_features: frozenset[str] = frozenset()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipTable:
    """The dataset's tables, indexed by clip id."""

    index: pd.DataFrame
    presence: pd.DataFrame | None
    collection: pd.DataFrame | None

    @property
    def chunks(self) -> list[int]:
        """Every chunk number that the index names, sorted."""
        return sorted(int(chunk) for chunk in self.index["chunk"].unique())

    def read_chunks(self, chunks: list[int]) -> list[ClipFacts]:
        """The clips of some chunks, in the order of (id, chunk); a clip that is listed twice comes twice."""
        rows = self.index[self.index["chunk"].isin(chunks)]
        columns = [rows.index, rows["chunk"], rows["split"], rows["clip_is_valid"]]
        columns += [_read_absent(self.presence, rows.index), _read_metadata(self.collection, rows.index)]
        facts = [
            ClipFacts(clip_id, int(chunk), split, bool(is_valid), absent, metadata)
            for clip_id, chunk, split, is_valid, absent, metadata in zip(*columns, strict=True)
        ]
        return sorted(facts, key=lambda clip: (clip.clip_id, clip.chunk))


def read_clip_table(root: Path, split_name: str = DEFAULT_SPLIT) -> ClipTable | None:
    """Read the tables of a dataset folder; None where it has no `clip_index.parquet`.

    Args:
        split_name: the file under splits/; the default one may be missing (older revisions have no such folder).

    Raises:
        SourceError: A table cannot be read, lacks a column, or names an unknown split.
    """
    index_path = root / "clip_index.parquet"
    if not index_path.is_file():
        return None
    index = _read_table(index_path)
    if "chunk" not in index.columns:
        raise SourceError(f"{index_path} has no column chunk (it has {list(index.columns)}); download it again")
    index = index.assign(
        split=_read_splits(root, index, split_name),
        clip_is_valid=index["clip_is_valid"].fillna(False) if "clip_is_valid" in index.columns else True,
    )
    presence = _read_first(root, "metadata/feature_presence.parquet", "metadata/sensor_presence.parquet")
    return ClipTable(index, presence, _read_first(root, "metadata/data_collection.parquet"))


def _read_splits(root: Path, index: pd.DataFrame, split_name: str) -> list[str]:
    path = root / "splits" / f"{split_name}.parquet"
    if path.is_file():
        labels = _read_table(path)
        if "split" not in labels.columns:
            raise SourceError(f"{path} has no column split (it has {list(labels.columns)})")
        column = labels.loc[~labels.index.duplicated(), "split"].reindex(index.index)
    elif split_name != DEFAULT_SPLIT:
        there = sorted(file.stem for file in path.parent.glob("*.parquet"))
        raise SourceError(f"{path} is missing; the splits that are there: {', '.join(there) or 'none'}")
    elif "split" in index.columns:
        path, column = root / "clip_index.parquet", index["split"]
    else:
        return [""] * len(index)
    values = ["" if value is None or value != value else str(value) for value in column]
    unknown = sorted(set(values) - {"", *SPLITS})
    if unknown:
        raise SourceError(f"{path} names the split {unknown[0]!r}; known are {', '.join(SPLITS)}")
    return values


def _read_first(root: Path, *names: str) -> pd.DataFrame | None:
    """The first of some tables that is there, without clips that it lists twice."""
    for name in names:
        if (root / name).is_file():
            table = _read_table(root / name)
            return table[~table.index.duplicated()]
    return None


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        table = pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path} is not a whole parquet table ({error}); download it again") from error
    if "clip_id" in table.columns:
        table = table.set_index("clip_id")
    return table.set_axis(table.index.astype(str), axis=0)


def _read_absent(presence: pd.DataFrame | None, clip_ids: pd.Index) -> list[frozenset[str]]:
    """For each clip the features that the presence table denies it; a clip the table does not list has them all."""
    if presence is None:
        return [frozenset()] * len(clip_ids)
    flags = presence.select_dtypes(include=bool)
    absent = ~flags.reindex(clip_ids, fill_value=True).to_numpy(dtype=bool)
    return [frozenset(flags.columns[row]) for row in absent]


def _read_metadata(table: pd.DataFrame | None, clip_ids: pd.Index) -> list[dict[str, Any]]:
    if table is None:
        return [{} for _ in clip_ids]
    present = table[table.index.isin(clip_ids)]
    by_id = dict(zip(present.index, present.to_dict("records"), strict=True))
    return [_to_plain(by_id.get(clip_id, {})) for clip_id in clip_ids]


def _to_plain(row: dict[str, Any]) -> dict[str, Any]:
    """A table's row as JSON values; empty cells are left out."""
    plain = {}
    for name, value in row.items():
        value = value.item() if hasattr(value, "item") else value
        if value is None or value != value:  # NaN and NaT differ from themselves
            continue
        plain[name] = value if isinstance(value, (bool, int, float, str)) and value not in INFINITE else str(value)
    return plain
