"""The best, the usual and the worst: single answers beside what was recorded, with frames of the clip.

The path of the second ahead is drawn on the last frame that was seen: on the road where the camera is known, from above
in a corner where it is not.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np

from driving.camera import CameraModel, parse_camera
from driving.errors import DrivingError
from driving.trajectory import integrate_batch
from evaluation.asking.predictions import Prediction
from evaluation.report.page import format_number, render_figure, show_text
from evaluation.report.svg import Series, line_chart, path_chart
from evaluation.scoring.answers import Answers
from evaluation.scoring.baselines import Motion
from evaluation.scoring.score import Columns
from evaluation.scoring.truth import Truth

ReadFrames = Callable[[str], np.ndarray]  # row id -> (T, H, W, 3) uint8
NUM_SHOWN = 3  # clips at either end
LARGE_PX, SMALL_PX = 560, 240  # widths of the last frame, and of those before it
MAX_ANSWER_CHARS = 420
PATH_SIZE, CURVE_SIZE = (360, 310), (360, 170)
READ_AS = {
    "strict": "the answer is exactly the list asked for",
    "lenient": "the answer was read leniently",
    "failed": "the answer could not be read and is scored as a guess",
}
_PLACES = ("", "2nd ", "3rd ", "4th ", "5th ")


@dataclass(frozen=True)
class Shown:
    """What examples are made of.

    Attributes:
        truth, answers, predictions: of all rows.
        errors: the model's columns.
        reference: a cheap guess, as people are told of it and as a motion, drawn for comparison.
        read_frames: decodes a row's clip.
    """

    truth: Truth
    answers: Answers
    predictions: dict[str, Prediction]
    errors: Columns
    reference: tuple[str, Motion]
    read_frames: ReadFrames


def rank_clips(ade_m: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(names (C,), mean ADE (C,), code of each row's clip (B,)): the clips from the best to the worst."""
    names, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    means = np.bincount(codes, weights=ade_m) / np.bincount(codes)
    order = np.argsort(means, kind="stable")
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    return names[order], means[order], place[codes]


def choose_examples(ade_m: np.ndarray, groups: np.ndarray, num_shown: int = NUM_SHOWN) -> list[tuple[str, int]]:
    """(caption, row) of the best clips, the middle one and the worst, by mean ADE; of each clip its row in the middle.

    The very best, the very worst and the middle one come first where there are few clips.
    """
    names, _, codes = rank_clips(ade_m, groups)
    captions: dict[int, str] = {}
    for place in range(num_shown):
        captions.setdefault(place, f"{_PLACES[place]}best clip")
        captions.setdefault(len(names) - 1 - place, f"{_PLACES[place]}worst clip")
        if place == 0:
            captions.setdefault((len(names) - 1) // 2, "middle clip")
    ends = [place for place in sorted(captions) if 0 <= place < len(names)]
    worst = [place for place in ends if captions[place].endswith("worst clip")]
    chosen = []
    for place in [*(place for place in ends if place not in worst), *reversed(worst)]:
        rows = np.flatnonzero(codes == place)
        middle = rows[np.argsort(ade_m[rows], kind="stable")[(len(rows) - 1) // 2]]
        chosen.append((captions[place][0].upper() + captions[place][1:], int(middle)))
    return chosen


def render_examples(shown: Shown) -> str:
    """Markup of all examples."""
    chosen = choose_examples(shown.errors["ade_m"], shown.truth.groups)
    return "".join(_render_example(caption, row, shown) for caption, row in chosen)


def _render_example(caption: str, row: int, shown: Shown) -> str:
    name = str(shown.truth.ids[row])
    ade, speed = shown.errors["ade_m"][row], shown.errors["velocity_mae_mps"][row]
    of_clip = shown.errors["ade_m"][shown.truth.groups == shown.truth.groups[row]].mean()
    head = (
        f"<h3>{escape(caption)}: <code>{escape(name)}</code></h3>"
        f'<p class="sub">ADE {format_number(ade, 2)} m ({format_number(of_clip, 2)} m over the clip), '
        f"speed error {format_number(speed, 2)} m/s, "
        f"{READ_AS[shown.answers.parsed[row].parsing]}</p>"
    )
    paths = _drive(row, shown)
    charts = f"{_draw_path(paths)}<div>{_draw_curves(row, shown)}</div>"
    text = show_text(shown.predictions[name].text, MAX_ANSWER_CHARS) or "(empty)"
    answer = f"<details><summary>the answer as it came</summary><pre>{text}</pre></details>"
    frames = _render_frames(row, paths, shown)
    return f'<div class="example">{head}<div class="trio">{frames}{charts}</div>{answer}</div>'


def _drive(row: int, shown: Shown) -> dict[str, np.ndarray]:
    """(T + 1, 3) poses of the guess, of what was recorded, and of the answer where there is one."""

    def drive(motion: Motion) -> np.ndarray:
        return integrate_batch(motion[0][row : row + 1], motion[1][row : row + 1], shown.truth.interval_s)[0]

    label, motion = shown.reference
    paths = {label: drive(motion), "recorded": shown.truth.poses[row, : shown.truth.num_samples + 1]}
    if shown.answers.parsed[row].trajectory is not None:  # else the motion is the fallback's, not a prediction
        paths["predicted"] = drive((shown.answers.velocity_mps, shown.answers.curvature_per_m))
    return paths


def _render_frames(row: int, paths: dict[str, np.ndarray], shown: Shown) -> str:
    try:
        frames = shown.read_frames(str(shown.truth.ids[row]))
        camera = read_camera(shown.truth.facts[row].get("camera"))
    except DrivingError as error:
        return f'<p class="note">no frames: {escape(str(error))}</p>'
    small = "".join(
        f'<img alt="frame of the clip that was seen" src="{encode_jpeg(resize_to_width(frame, SMALL_PX))}">'
        for frame in (frames[0], frames[len(frames) // 2])
    )
    large = encode_jpeg(draw_second_ahead(frames[-1], camera, paths))
    note = "" if camera is not None else "<figcaption>the camera is not known: drawn from above</figcaption>"
    return (
        f'<figure class="strip"><img alt="last frame with the second ahead drawn" src="{large}">'
        f"<div>{small}</div>{note}</figure>"
    )


def read_camera(text: str | None) -> CameraModel | None:
    """The camera of a row; None where the data does not say."""
    return parse_camera(text) if text else None


def draw_second_ahead(frame: np.ndarray, camera: CameraModel | None, paths: dict[str, np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8 -> the frame at LARGE_PX with the recorded path on it, and the predicted one on top."""
    from evaluation.video.overlay import PREDICTED, RECORDED, DrawnPath, draw_path

    drawn = [
        DrawnPath(paths[name], colour, name)
        for name, colour in (("recorded", RECORDED), ("predicted", PREDICTED))
        if name in paths
    ]
    return draw_path(resize_to_width(frame, LARGE_PX), camera, drawn)


def resize_to_width(frame: np.ndarray, width_px: int) -> np.ndarray:
    """The same picture at another width."""
    from PIL import Image

    height, width = frame.shape[:2]
    size = (width_px, max(1, round(height * width_px / width)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def encode_jpeg(frame: np.ndarray) -> str:
    """(H, W, 3) uint8 -> a JPEG as a data address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=78, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _draw_path(paths: dict[str, np.ndarray]) -> str:
    styles = {"recorded": "truth", "predicted": "model"}
    series = [
        Series(label, poses[:, :2], styles.get(label, "mean"), is_dashed=label not in styles)
        for label, poses in paths.items()
    ]
    chart = path_chart(series, "predicted and recorded path from above", PATH_SIZE)
    return render_figure("From above", chart)


def _draw_curves(row: int, shown: Shown) -> str:
    truth, answers = shown.truth, shown.answers
    times_s = (np.arange(truth.num_samples) + 0.5) * truth.interval_s
    charts = []
    for title, unit, min_span, true, predicted in (
        ("Speed", "m/s", 2.0, truth.velocity_mps[row], answers.velocity_mps[row]),
        ("Curvature (left is positive)", "1/m", 0.01, truth.curvature_per_m[row], answers.curvature_per_m[row]),
    ):
        series = [Series("recorded", np.stack([times_s, true], axis=1), "truth")]
        if answers.parsed[row].trajectory is not None:
            series.append(Series("predicted", np.stack([times_s, predicted], axis=1), "model"))
        caption = f"{title}, predicted and recorded"
        chart = line_chart(
            series, "seconds ahead", unit, caption, from_zero=unit == "m/s", min_span=min_span, size=CURVE_SIZE
        )
        charts.append(render_figure(title, chart))
    return "".join(charts)
