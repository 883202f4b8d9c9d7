"""What a run leaves behind, and what it inherits: its result from a checkpoint, the recordings its base has seen."""

from __future__ import annotations

import shutil
from pathlib import Path

from driving.errors import DrivingError
from driving.ledger import LEDGER_NAME, MANIFEST_NAME, PLAN_NAME
from driving.whole_files import read_json, write_atomically
from qwenvl.train.checkpoints import GROUPS_NAME, MARKER_NAME
from qwenvl.train.plan_report import PLAN_FACTS_NAME

# What only a resume needs.
STATE_FILES = (
    MARKER_NAME, LEDGER_NAME, "optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*", "trainer_state.json", "latest",
    "zero_to_fp32.py",
)  # fmt: skip

RESULT_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt")
# The run's papers, and what people edit by hand.
NOT_RESULT = (MANIFEST_NAME, PLAN_NAME, PLAN_FACTS_NAME, "best.json", "generation_config.json")
_TAKE_AGAIN = "take the file from the training run again"


def copy_result(checkpoint: Path, output_dir: Path) -> None:
    """Make a checkpoint's weights and companions the run's result; what only a resume needs stays behind.

    Raises:
        DrivingError: DeepSpeed wrote its shards and nothing else.
    """
    if not any(Path(checkpoint).glob("*.safetensors")):
        raise DrivingError(
            f"{checkpoint} holds shards only; gather them with its zero_to_fp32.py, or set "
            "stage3_gather_16bit_weights_on_model_save in the DeepSpeed config"
        )
    for path in sorted(Path(checkpoint).iterdir()):
        is_state = any(path.match(pattern) for pattern in STATE_FILES)
        if path.is_file() and not is_state:
            with path.open("rb") as source, write_atomically(Path(output_dir) / path.name) as target:
                shutil.copyfileobj(source, target)


def list_result(output_dir: Path) -> list[str]:
    """The files that a finished run consists of: it is not finished any more when one of them is gone."""
    found = [path.name for path in Path(output_dir).iterdir() if path.is_file() and path.suffix in RESULT_SUFFIXES]
    return sorted(name for name in found if name not in NOT_RESULT)


def read_groups(folder: str | Path) -> list[str]:
    """The recordings that a model folder says it was trained on; none for a hub name, or where it does not say.

    Raises:
        DrivingError: Its training_groups.json is not a list.
    """
    path = Path(folder) / GROUPS_NAME
    if not path.exists():
        return []
    groups = read_json(path, _TAKE_AGAIN)
    if not isinstance(groups, list):
        raise DrivingError(f"{path} holds no list of recordings; {_TAKE_AGAIN}")
    return [str(group) for group in groups]
