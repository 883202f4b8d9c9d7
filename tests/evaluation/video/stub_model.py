"""A stub in place of a model, and videos drawn for it."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np

from driving.answer_format import AnswerFormat
from qwenvl.data.dataset import read_clips
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.train.generation import Generated

FORMAT = AnswerFormat(num_pairs=2, fps=10.0)
PREPROCESSING = {"video_fps": 10.0, "video_min_frames": 2, "answer_format": FORMAT.to_json()}
ANSWER = "[(12.0, 0.0200), (14.0, 0.0200)]"


class StubModel:
    """Answers every second with ANSWER, or what it is told; reads frames as the model's engine does."""

    def __init__(self, answers=None, fail_after=None):
        self.answers = answers or {}
        self.fail_after = fail_after
        self.records, self.shapes = [], []

    def read(self, record):
        return read_clips(record, Preprocessing(**PREPROCESSING))

    def prepare(self, record, clips):
        return record, clips[0]

    def generate(self, samples):
        if self.fail_after is not None and len(self.records) >= self.fail_after:
            raise KeyboardInterrupt
        self.records += [record for record, _ in samples]
        self.shapes += [clip.frames.shape for _, clip in samples]
        names = [record["id"][-4:] for record, _ in samples]
        return [Generated(self.answers.get(name, ANSWER), 29, False, 100) for name in names]


def draw_video(path, num_frames, fps, height=90, width=160, sound_first=False, pts=None):
    """A road-like picture: grey level 2 i in frame i, dark upper half."""
    with av.open(str(path), "w") as container:
        if sound_first:
            sound = container.add_stream("aac", rate=8000)
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        if sound_first:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
        for index in range(num_frames):
            picture = np.full((height, width, 3), 60 + 2 * (index % 60), np.uint8)
            picture[: height // 2] //= 2
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[index], Fraction(1, 1000)
                stream.codec_context.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_lines(folder):
    return [json.loads(line) for line in (folder / "out.predictions.jsonl").read_text().splitlines()]
