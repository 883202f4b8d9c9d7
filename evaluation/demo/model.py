"""What the demo page asks and shows, without the page: one clip in, its answer read, drawn and written as a video.

row id ──────────┐
an uploaded video┴▶ record ──engine──▶ answer ──parse_text──▶ motion ──▶ Asked(video, picture, charts, ...)
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.errors import DrivingError
from driving.records import record_name

if TYPE_CHECKING:
    import numpy as np

    from driving.answer_format import AnswerFormat
    from evaluation.scoring.truth import Truth


@dataclass(frozen=True)
class Asked:
    """What the page shows of one answer.

    Attributes:
        video: an mp4 of the frames that the model saw.
        picture: (H, W, 3) uint8, the last of them with the predicted path (and the recorded one) in it.
        text: the answer as it came.
        facts: one line: how it was read, tokens, frames.
        charts: markup of path and curves; "" where the answer could not be read.
    """

    video: Path
    picture: np.ndarray
    text: str
    facts: str
    charts: str


@dataclass
class Demo:
    """A model and the rows to choose from.

    Attributes:
        engine: of evaluation.asking.engine, or a server behind the same protocol.
        preprocessing: of the checkpoint.
        answer_format: that the model was taught; None where it answers in words.
        records: by id.
        truth: of the rows that have one.
        folder: where videos for the page are written.
    """

    engine: Any
    preprocessing: Any
    answer_format: AnswerFormat | None
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    truth: Truth | None = None
    folder: Path = Path(tempfile.gettempdir())

    def show_row(self, name: str) -> Path:
        """The clip of a row of the training JSON, as the model sees it: an mp4.

        Raises:
            DrivingError: There is no such row, or its clip cannot be read.
        """
        return self._write_video(self._read_clips(self._find_record(name)))

    def ask_row(self, name: str) -> Asked:
        """Ask about a row of the training JSON.

        Raises:
            DrivingError: There is no such row, or its clip cannot be read.
        """
        return self._ask(self._find_record(name), name, "")

    def ask_video(self, path: str | Path, start_s: float = 0.0) -> Asked:
        """Ask about one stretch of a video file.

        Raises:
            DrivingError: It cannot be read, is too short, or the model must be told how the car moved.
        """
        from evaluation.serving.ask import build_record

        record, note = build_record(Path(path), self.preprocessing, start_s)
        return self._ask(record, "", note)

    def _ask(self, record: dict[str, Any], name: str, note: str) -> Asked:
        from evaluation.demo.charts import draw_answer, render_charts
        from evaluation.report.examples import read_camera

        clips = self._read_clips(record)
        answer = self.engine.generate([self.engine.prepare(record, clips)])[0]
        motion, facts = self._read(answer)
        frames, height, width = clips[0].frames.shape[:3]
        facts += [f"{frames} frames of {height}x{width} px at {clips[0].fps:g} a second"] + [note] * bool(note)
        truth, row = self._find_truth(name)
        camera = None if truth is None else read_camera(truth.facts[row].get("camera"))
        picture = draw_answer(clips[0].frames[-1], motion, self.answer_format, truth, row, camera)
        charts = render_charts(motion, self.answer_format, truth, row)
        return Asked(self._write_video(clips), picture, answer.text, "; ".join(facts), charts)

    def _find_record(self, name: str) -> dict[str, Any]:
        if name not in self.records:
            raise DrivingError(f"there is no row {name!r}; choose one of the list")
        return self.records[name]

    def _read_clips(self, record: dict[str, Any]) -> list[Any]:
        clips = self.engine.read(record)
        if not clips:
            raise DrivingError(f"{record_name(record)} shows no video; choose another")
        return clips

    def _write_video(self, clips: list[Any]) -> Path:
        from video_io import write_video

        with tempfile.NamedTemporaryFile(suffix=".mp4", dir=self.folder, delete=False) as file:
            path = Path(file.name)
        write_video(path, clips[0].frames, clips[0].fps)
        return path

    def _read(self, answer: Any) -> tuple[Any, list[str]]:
        """(motion or None, facts about the answer)."""
        from evaluation.scoring.answers import parse_text

        facts = [f"{answer.num_tokens} tokens"] + ["cut by the token limit"] * answer.is_cut
        if self.answer_format is None:
            return None, facts
        parsed = parse_text(answer.text, self.answer_format)
        return parsed.trajectory, [f"{parsed.parsing}: {parsed.error}" if parsed.error else parsed.parsing, *facts]

    def _find_truth(self, name: str) -> tuple[Truth | None, int]:
        if self.truth is None or name not in (ids := self.truth.ids.tolist()):
            return None, -1
        return self.truth, ids.index(name)
