"""How raw video becomes the pixels and tokens of one sample: decided once, saved with the weights, read back by all.

Training writes `preprocessing.json` into every checkpoint; evaluation and serving read it from there, so that a model
is never asked about frames that it was not taught to see.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.frame_size import FRAME_PIXELS, PATCH_FACTOR_PX
from driving.whole_files import write_json

FILE_NAME = "preprocessing.json"
GREY = 128  # of every pixel that a blind model is shown


@dataclass(frozen=True)
class Preprocessing:
    """Sampling and frame size of videos and images.

    Attributes:
        video_fps: frames per second taken from a clip.
        video_min_frames, video_max_frames: bounds of the number of frames; a clip never gives more than it holds.
        video_frame_pixels: area of one frame in px; None = the default, unless video_max_pixels is given.
        video_max_pixels: pixels of *all frames together*, as Qwen3-VL counts them; None = not limited so.
        video_min_pixels: the same from below; None = frames are never enlarged.
        max_pixels, min_pixels: area of one still image in px; None = the image processor's own.
        factor_px: patch x merge; both sides of a frame are multiples of it.
        scaler: how frames are resized, a name of video_io.scale.SCALERS.
        blind: show grey frames of the same number and size: what a model learns from the text alone.
        prompt_hash: of the prompt tokens of the first sample trained on (16 hex digits); "" before training.
        prompt_example: that first sample's turns and clip shapes, to render the prompt again; None with still images.
        answer_format: the dataset's AnswerFormat as JSON values; None where the dataset has none.
        transformers_version: of the processor that rendered the prompt.
    """

    video_fps: float = 30.0
    video_min_frames: int = 16
    video_max_frames: int = 32
    video_frame_pixels: int | None = None
    video_max_pixels: int | None = None
    video_min_pixels: int | None = None
    max_pixels: int | None = None
    min_pixels: int | None = None
    factor_px: int = PATCH_FACTOR_PX
    scaler: str = "area"
    blind: bool = False
    prompt_hash: str = ""
    prompt_example: dict[str, Any] | None = None
    answer_format: dict[str, Any] | None = None
    transformers_version: str = ""

    def __post_init__(self) -> None:
        for name in ("video_fps", "video_min_frames", "video_max_frames"):
            if not getattr(self, name) > 0:
                raise DrivingError(f"--{name} {getattr(self, name)} must be above 0")
        for name in ("video_frame_pixels", "video_max_pixels", "video_min_pixels", "max_pixels", "min_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DrivingError(f"--{name} {value} must be above 0")
        for low, high in (
            ("video_min_frames", "video_max_frames"),
            ("video_min_pixels", "video_max_pixels"),
            ("min_pixels", "max_pixels"),
        ):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise DrivingError(f"--{low} {least} is above --{high} {most}")

    @property
    def frame_pixels(self) -> int | None:
        """The area rule in force, in px a frame; None where the total over all frames rules."""
        if self.video_frame_pixels is not None:
            return self.video_frame_pixels
        return FRAME_PIXELS if self.video_max_pixels is None else None

    def write(self, folder: Path) -> None:
        """Write `preprocessing.json` into a checkpoint."""
        write_json(Path(folder) / FILE_NAME, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """JSON values; without `blind` where it is off, as before there was such a thing."""
        values = dataclasses.asdict(self)
        return values if self.blind else {name: value for name, value in values.items() if name != "blind"}

    @classmethod
    def read(cls, folder: Path) -> Preprocessing | None:
        """Read it back; None where the folder has none (a model that we did not train).

        Raises:
            DrivingError: The file is not JSON, or holds what this version does not know.
        """
        path = Path(folder) / FILE_NAME
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        except (ValueError, TypeError) as error:
            raise DrivingError(f"{path} is not a JSON object ({error}); take the checkpoint's own file") from error
        if unknown:
            raise DrivingError(f"{path} holds {sorted(unknown)[0]!r}, which this version does not know; update it")
        return cls(**values)
