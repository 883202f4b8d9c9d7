"""The datasets that `--dataset_use` knows by name, and how a name or path becomes rows.

    "physical_ai_driving%50,my/train.json" ──parse_dataset_use──▶ [DatasetUse, DatasetUse] ──choose_rows──▶ row numbers

A system adds its own in `systems/<name>/datasets.json`: {"name": {"annotation_path": ..., "data_path": ...}}.
Paths are relative to the folder that training is started in.
"""

from __future__ import annotations

import difflib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from driving.errors import DrivingError

PHYSICAL_AI_DRIVING = {
    "annotation_path": "qwen_video_dataset_training/train.json",
    "data_path": "",  # paths in the annotation are relative to the project root
}

data_dict = {"physical_ai_driving": PHYSICAL_AI_DRIVING}

_ANNOTATION_SUFFIXES = (".json", ".jsonl", ".tar")
_REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class DatasetUse:
    """One entry of `--dataset_use`.

    Attributes:
        name: as the user wrote it, without the percentage.
        annotation_path: the training JSON; with --streaming also what names shards.
        data_path: first folder in which the media are looked for.
        percent: share of the rows to use; above 100 rows are used more than once.
    """

    name: str
    annotation_path: Path
    data_path: Path
    percent: float = 100.0


def load_registry(system_folders: tuple[Path, ...] | None = None) -> dict[str, dict[str, str]]:
    """Every dataset known by name: ours, and what the systems bring.

    Raises:
        DrivingError: A datasets.json is not of its shape, or two systems claim one name.
    """
    registry = {name: dict(entry) for name, entry in data_dict.items()}
    folders = system_folders if system_folders is not None else (Path("systems"), _REPOSITORY / "systems")
    seen: dict[Path, None] = {path.resolve(): None for folder in folders for path in folder.glob("*/datasets.json")}
    for path in sorted(seen):
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            for entry in entries.values():
                _ = entry["annotation_path"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DrivingError(
                f"{path} is not a dataset registry ({error!r}); "
                'it must read {"name": {"annotation_path": "...", "data_path": "..."}}'
            ) from error
        for name, entry in entries.items():
            if name in registry and registry[name] != entry:
                raise DrivingError(f"{path} registers {name!r}, which is taken; choose another name")
            registry[name] = entry
    return registry


def parse_dataset_use(text: str, registry: dict[str, dict[str, str]] | None = None) -> list[DatasetUse]:
    """Read `--dataset_use`: names or paths, commas between them, each with an optional %N.

    Raises:
        DrivingError: Nothing is named, a share is not a number above 0, or a name is unknown (with the nearest known).
    """
    known = load_registry() if registry is None else registry
    uses = [_parse_one(entry.strip(), known) for entry in text.split(",") if entry.strip()]
    if not uses:
        raise DrivingError("--dataset_use names no dataset; give a registered name or the path of a train.json")
    return uses


def _parse_one(entry: str, known: dict[str, dict[str, str]]) -> DatasetUse:
    name, mark, share = entry.rpartition("%")
    if not mark:
        name, share = entry, "100"
    try:
        percent = float(share)
    except ValueError:
        percent = 0.0
    if not 0 < percent < float("inf"):
        raise DrivingError(f"--dataset_use {entry!r}: {share!r} after % must be a number above 0, such as 50 or 200")
    if name in known:
        found = known[name]
        return DatasetUse(name, Path(found["annotation_path"]), Path(found.get("data_path", "")), percent)
    if name.endswith(_ANNOTATION_SUFFIXES) or "/" in name or Path(name).is_dir():
        return DatasetUse(name, Path(name), Path(""), percent)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
    raise DrivingError(
        f"dataset {name!r} is not registered; the nearest known are {', '.join(near)} "
        "(or give the path of a train.json)"
    )


def choose_rows(num_rows: int, percent: float, seed: int, name: str) -> list[int]:
    """Which rows a share takes: the same on every rank and after every resume, in rising order.

    200 % is every row twice; 150 % is every row once and a seeded half of them again.
    """
    import numpy as np

    num_wanted = max(1, round(num_rows * percent / 100)) if num_rows else 0
    whole, rest = divmod(num_wanted, num_rows) if num_rows else (0, 0)
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    extra = generator.choice(num_rows, size=rest, replace=False).tolist() if rest else []
    return sorted(list(range(num_rows)) * whole + extra)


def choose_weighted_rows(weights: Sequence[float], percent: float, seed: int, name: str) -> list[int]:
    """`choose_rows` where each row says how often it is used: weight x percent times, in rising order.

    A row with 2.3 is used twice, and with a seeded draw a third time; the draws are spread over the rows, so the number
    of rows in all is the sum of the weights, rounded down, and 1 at least.
    """
    import numpy as np

    wanted = np.asarray(weights, dtype=np.float64) * (percent / 100)
    whole = np.floor(wanted).astype(np.int64)
    generator = np.random.default_rng([seed, zlib.crc32(name.encode()), 1])
    order = generator.permutation(len(wanted))
    # Steps of 1 along the sum of the fractions, rows in a seeded order: each is met with its fraction's probability.
    edges = np.cumsum((wanted - whole)[order])
    num_extra = int(edges[-1] + 1e-6)  # a whole number may come out a hair too small
    marks = (np.arange(num_extra) + generator.random()) * (edges[-1] / max(1, num_extra))
    met = np.minimum(np.searchsorted(edges, marks, side="right"), len(order) - 1)
    np.add.at(whole, order[met], 1)
    if not whole.any():
        whole[int(np.argmax(wanted))] = 1  # as without weights: a share is at least one row
    return np.repeat(np.arange(len(wanted)), whole).tolist()
