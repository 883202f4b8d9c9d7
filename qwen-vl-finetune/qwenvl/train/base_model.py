"""Which base model a checkpoint stands on: an adapter is a difference, and fits no other weights.

    folder or hub name ──resolve_base──▶ BaseModel ──write──▶ base.json in each checkpoint and result
    base.json ──read, check_base──▶ the same weights, or a refusal that names both

A folder is known by a fingerprint of its files, a hub name by its commit, which is looked up once and then kept to:
a model that moves on at the hub does not change under a run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from driving.errors import DrivingError
from driving.whole_files import write_json
from qwenvl.train.hub import check_findable

BASE_NAME = "base.json"
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
SAMPLE_BYTES = 1024  # of each tensor, from its start and its middle: training changes every value of what it changes
SNAPSHOT = re.compile(r"models--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]{40})/?$")


@dataclass(frozen=True)
class BaseModel:
    """The weights that a run began from, and the form they were loaded in.

    Attributes:
        path: model folder or hub name, as it was given.
        identity: the hub's "name@commit", or the fingerprint of a folder.
        commit: of a hub model, 40 hex digits; "" for a folder.
        fingerprint: of the files, also of a hub model once they are here; "" before.
        model_type: of its config.
        load_in_4bit: the language model was quantised (NF4, double quantisation).
        precision: the type that the weights had, "bf16", "fp16" or "fp32", also before they were quantised.
    """

    path: str
    identity: str
    commit: str = ""
    fingerprint: str = ""
    model_type: str = ""
    load_in_4bit: bool = False
    precision: str = ""

    def write(self, folder: Path) -> None:
        """Write `base.json` into a checkpoint."""
        write_json(Path(folder) / BASE_NAME, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> BaseModel | None:
        """Read it back; None where the folder has none.

        Raises:
            DrivingError: The file is not what `write` wrote.
        """
        path = Path(folder) / BASE_NAME
        if not path.exists():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DrivingError(f"{path} cannot be read ({error}); take the checkpoint's own file") from error

    def is_same(self, other: BaseModel) -> bool:
        """Whether both are the same weights: the same commit, or the same files."""
        return self.identity == other.identity or bool(self.fingerprint) and self.fingerprint == other.fingerprint


def resolve_base(path: str | Path, commit: str = "", cache_dir: str | None = None) -> BaseModel:
    """Say which weights a folder holds, or a hub name stands for.

    Args:
        commit: of the hub to keep to; "" looks up the newest, or offline the one in the cache.

    Raises:
        DrivingError: The hub knows no such model, or cannot be reached and nothing is kept here.
    """
    folder = Path(path)
    if not folder.is_dir():
        config = _find_config(str(path), commit, cache_dir)
        name, commit = str(path), commit or config.parent.name
        return BaseModel(name, f"{name}@{commit}", commit, _fingerprint_if_whole(config.parent), _read_type(config))
    match = SNAPSHOT.search(folder.absolute().as_posix())
    fingerprint = fingerprint_folder(folder)
    identity = f"{match['name'].replace('--', '/')}@{match['commit']}" if match else fingerprint
    commit = match["commit"] if match else ""
    return BaseModel(str(path), identity, commit, fingerprint, _read_type(folder / "config.json"))


def find_commit(output_dir: str | Path, path: str) -> str:
    """The hub commit that a run in this folder began from, so that it is continued on the same; "" where unknown."""
    complete = [path.parent for path in Path(output_dir).glob("checkpoint-*/complete.json")]
    found = [BaseModel.read(folder) for folder in complete]
    return next((base.commit for base in found if base is not None and base.path == path), "")


def complete_base(base: BaseModel, cache_dir: str | None = None) -> BaseModel:
    """The same with its fingerprint, which a hub model has once its weights are here."""
    if base.fingerprint:
        return base
    return dataclasses.replace(base, fingerprint=resolve_base(base.path, base.commit, cache_dir).fingerprint)


def _find_config(name: str, commit: str, cache_dir: str | None) -> Path:
    from transformers.utils import cached_file

    check_findable(name, commit, cache_dir)
    try:
        return Path(cached_file(name, "config.json", revision=commit or "main", cache_dir=cache_dir))
    except OSError as error:
        first_line = (str(error).strip().splitlines() or ["no answer"])[0]
        raise DrivingError(
            f"{name} is no folder here, and the hub does not give it: {first_line}; mend the name, log in with "
            "`hf auth login`, or download it and give its folder"
        ) from error


def _read_type(config: Path) -> str:
    try:
        return str(json.loads(config.read_text(encoding="utf-8")).get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""  # what is wrong with it is said where the model is loaded


def _list_weights(folder: Path) -> list[Path]:
    return sorted(path for pattern in WEIGHT_PATTERNS for path in folder.glob(pattern))


def _fingerprint_if_whole(snapshot: Path) -> str:
    """The fingerprint of a snapshot in the hub's cache, "" where its weights are not all here yet."""
    indices = list(snapshot.glob("*.index.json"))
    try:
        shards = {name for path in indices for name in json.loads(path.read_text())["weight_map"].values()}
    except (ValueError, KeyError, AttributeError):
        return ""
    weights = {path.name for path in _list_weights(snapshot)}
    return fingerprint_folder(snapshot) if weights and shards <= weights else ""


def fingerprint_folder(folder: Path) -> str:
    """Sixteen hex digits of a model's config and weights, without reading all their bytes: a sample of each tensor."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for weights in _list_weights(folder):
        digest.update(f"{weights.name}:{weights.stat().st_size}".encode())
        with weights.open("rb") as handle:
            for start, length in _plan_samples(weights, handle.read(8)):
                handle.seek(start)
                digest.update(handle.read(length))
    return digest.hexdigest()[:16]


def _plan_samples(weights: Path, head: bytes) -> Iterator[tuple[int, int]]:
    """(first byte, number) of what is read of a weight file: the header, and two places in each tensor.

    Source: the safetensors format: 8 bytes of header length, little endian, a JSON header, then the tensors.
    """
    size = weights.stat().st_size
    header_bytes = int.from_bytes(head, "little")
    if weights.suffix != ".safetensors" or not 0 < header_bytes <= size - 8:
        step = max(1, size // 1000)
        yield from ((start, SAMPLE_BYTES) for start in range(0, size, step))
        return
    yield 0, 8 + header_bytes
    with weights.open("rb") as handle:
        handle.seek(8)
        try:
            header = json.loads(handle.read(header_bytes))
            spans = sorted(value["data_offsets"] for name, value in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # no weights; the loader says so
    for start, stop in spans:
        for place in (start, (start + stop) // 2):
            yield 8 + header_bytes + place, min(SAMPLE_BYTES, stop - place)


def check_base(now: BaseModel, folder: Path, advice: str) -> None:
    """Raise where a checkpoint stands on other weights than those at hand; one without base.json is not asked.

    Raises:
        DrivingError: With both identities, and `advice`.
    """
    then = BaseModel.read(folder)
    if then is None or now.is_same(then):
        return
    moved = "" if then.path == now.path else f", which was {then.path}"
    raise DrivingError(
        f"the base model {now.path} is not the one that {folder} was trained on{moved} (it is {now.identity}, was "
        f"{then.identity}): its weights or its config have changed; {advice}"
    )
