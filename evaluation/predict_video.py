"""A trained model and any video -> the video with the predicted path in it, and the predictions beside it.

    my_dashcam.mp4 ──plan_seconds──▶ records ──predict──▶ answers ──▶ overlay.predictions.jsonl
                                                               └─write_overlay─▶ overlay.mp4

The seconds are asked about as `--cut index` rows are: same reader, same prompt, same preprocessing as in training.
Answers wait in a hidden folder beside the output until both files are whole, so a run that was stopped goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.answer_format import AnswerFormat
from driving.camera import CameraModel
from driving.errors import DrivingError
from driving.ledger import PLAN_NAME, claim_output, dump_json, write_atomically
from driving.option_values import number, parse_count, whole_number
from driving.options import option, parse_options
from evaluation.evaluate import parse_auto_tokens, parse_device
from evaluation.predict import PARTS_NAME

if TYPE_CHECKING:
    from evaluation.checkpoint import Checkpoint
    from evaluation.engine import Engine
    from evaluation.overlay_video import Shown
    from evaluation.predict import Prediction
    from evaluation.video_seconds import Second
    from video_io.probe import VideoInfo

WIDEST_ANSWER = (-88.8, -0.8888)  # no pair of a sane answer is longer than this one


@dataclass(frozen=True)
class PredictOptions:
    """Ask a model about every second of a video, and draw the path that it predicts for the next one.

    Reads any video file; writes OUT, and OUT's name with .predictions.jsonl for .mp4 beside it.
    Running twice is safe: a run that was stopped goes on where it was, a finished one is made again.
    """

    video: Path = option(positional=True, help="any video with frame times: mp4, mov, mkv, ...")
    model: str = option(
        "checkpoints/physical_ai_driving_lora", help="adapter folder, full model folder, or a base model's name"
    )
    out: Path = option(Path("overlay.mp4"), help="the video that is written, an .mp4")
    calibration: Path | None = option(
        None, help="the camera, as JSON (driving/calibration.py says how); default: the path is drawn from above only"
    )
    base_model: str = option("", help="where an adapter's base model is now; default: where it was in training")
    every_s: float = option(
        0.0, unit="s", parse=number(0), help="ask again after so long; 0: when the predicted time is over"
    )
    max_seconds: int = option(0, parse=parse_count, help="ask so many times, from the beginning; 0 means to the end")
    max_height: int = option(1080, unit="px", parse=whole_number(64), help="scale a higher video down to this")
    batch_size: int = option(8, parse=whole_number(1), help="seconds asked about at once")
    max_new_tokens: int | str = option(
        "auto", unit="tokens", parse=parse_auto_tokens, help="longest answer; auto: what the answer format can need"
    )
    device: str = option("auto", parse=parse_device, help="auto, cpu, cuda or cuda:N")
    force: bool = option(False, help="go on although prompt or base model are not those of training")
    overwrite_output: bool = option(False, help="replace an OUT that this tool did not write")


EngineBuilder = Callable[["PredictOptions", AnswerFormat, "Checkpoint"], "Engine"]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    print(run(parse_options(PredictOptions, argv))["message"])
    return 0


def run(options: PredictOptions, build_engine: EngineBuilder | None = None) -> dict[str, Any]:
    """Predict and draw; returns {"message": last line of output, "predictions": the lines written}.

    Raises:
        DrivingError: Something the user can mend; see the message.
    """
    from driving.calibration import read_calibration
    from driving.recording import VideoAddress
    from evaluation.checkpoint import read_checkpoint
    from evaluation.overlay_video import write_overlay
    from evaluation.planning import check_papers
    from evaluation.predict import Job, plan_batches, predict, read_parts
    from evaluation.video_seconds import build_records, explain_rate, plan_seconds
    from video_io.probe import probe_video

    lines_path = check_output(options)
    camera = None if options.calibration is None else read_calibration(options.calibration)
    address = VideoAddress(str(options.video))
    info = probe_video(address)
    checkpoint = read_checkpoint(options.model, options.base_model)
    check_papers(checkpoint, force=options.force)
    answer_format = choose_answer_format(checkpoint)
    seconds = plan_seconds(info, answer_format.duration_s, options.video.name, options.every_s)
    seconds = seconds[: options.max_seconds or None]
    prompt_example = (checkpoint.preprocessing or {}).get("prompt_example")
    records = build_records(options.video, seconds, answer_format, prompt_example)
    note = explain_rate(info, float((checkpoint.preprocessing or {}).get("video_fps", answer_format.fps)))
    _say(options, info, len(seconds), camera, note)
    job = Job(records=records, batch_size=options.batch_size)
    work = options.out.with_name(f".{options.out.name}.work")
    plan = plan_output(options, checkpoint, records)
    with claim_output(work, plan, give_up=discard) as output:
        predict(job, (build_engine or load_model)(options, answer_format, checkpoint), output.folder)
        predictions, skips = read_parts(output.folder, len(plan_batches(job)))
        reasons = {skip.id: skip.reason for skip in skips}
        by_id = {prediction.id: prediction for prediction in predictions}
        shown, lines = [], []
        for second, record in zip(seconds, records, strict=True):
            name = record["id"]
            answer, line = read_answer(second, by_id.get(name), reasons.get(name, ""), answer_format, seconds[0])
            shown.append(answer)
            lines.append({"id": name, **line, "model": options.model, "note": note})
        if not predictions:
            raise DrivingError(f"no second of {options.video} could be asked about; the first: {skips[0].reason}")
        with write_atomically(lines_path, "w") as handle:
            handle.writelines(dump_json(line) + "\n" for line in lines)
        write_overlay(options.out, address, info, shown, camera, note=note, max_height_px=options.max_height)
    shutil.rmtree(work, ignore_errors=True)
    return {"predictions": lines, "message": summarise(options.out, lines_path, lines)}


def check_output(options: PredictOptions) -> Path:
    """Where the predictions go; raises where the output would spoil something.

    Raises:
        DrivingError: OUT is no .mp4, is the video itself, or is a file that this tool did not write.
    """
    out, video = options.out, options.video
    lines_path = out.with_name(f"{out.stem}.predictions.jsonl")
    if out.suffix.lower() != ".mp4":
        raise DrivingError(f"--out {out} is no .mp4: overlays are written as mp4; name it {out.stem}.mp4")
    if not video.exists():
        raise DrivingError(f"{video} is not there; give the path of a video")
    if video.is_dir():
        raise DrivingError(f"{video} is a folder; give one video file")
    if out.exists() and video.exists() and out.samefile(video):
        raise DrivingError(f"--out {out} is the video itself, which would be lost; name another")
    if out.exists() and not lines_path.exists() and not options.overwrite_output:
        raise DrivingError(
            f"--out {out} is there and was not written by this tool (no {lines_path.name} beside it); name another, or "
            "pass --overwrite-output"
        )
    return lines_path


def choose_answer_format(checkpoint: Checkpoint) -> AnswerFormat:
    """The format that the model was taught; the default question for a model as it comes.

    Raises:
        DrivingError: It was trained on something else than motion, or by another version.
    """
    if checkpoint.preprocessing is None:
        return AnswerFormat()
    taught = checkpoint.preprocessing.get("answer_format")
    if taught is None:
        raise DrivingError(
            f"{checkpoint.name} was not taught to answer with motion: its preprocessing.json holds no answer_format; "
            "take a model that was trained on a driving dataset of this project"
        )
    try:
        return AnswerFormat(**taught)
    except TypeError as error:
        raise DrivingError(f"the answer format {taught} is not one of this version ({error})") from error


def plan_output(options: PredictOptions, checkpoint: Checkpoint, records: list[dict[str, Any]]) -> dict[str, Any]:
    """What the answers depend on: a stopped run goes on only with the same."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported
    from evaluation.engine import describe_device

    status = options.video.stat()
    return {
        "tool": "predict",
        "video": [str(options.video.resolve()), status.st_size, status.st_mtime_ns],
        "model": [checkpoint.name, checkpoint.fingerprint, checkpoint.base],
        "device": describe_device(options.device),
        "num_seconds": len(records),
        "every_s": options.every_s,
        "batch_size": options.batch_size,
        "max_new_tokens": options.max_new_tokens,
    }


def discard(folder: Path) -> bool:
    """Throw away the answers of another video or model, which was stopped: they are of no use to this one."""
    shutil.rmtree(folder / PARTS_NAME, ignore_errors=True)
    (folder / PLAN_NAME).unlink()
    return True


def load_model(options: PredictOptions, answer_format: AnswerFormat, checkpoint: Checkpoint) -> Engine:
    """The model with its own preprocessing, and room for the longest answer of its format."""
    import numpy as np

    from driving.answer_format import format_answer
    from driving.trajectory import Trajectory
    from evaluation.engine import choose_device, load_engine
    from qwenvl.data.preview import find_prompt_change
    from qwenvl.train.generation import choose_max_new_tokens

    engine = load_engine(
        options.model,
        choose_device(options.device),
        [Path.cwd()],
        base_model=options.base_model,
        other_base=options.force,
        has_preprocessing=checkpoint.preprocessing is not None,
        dataset={"fps": answer_format.fps},
    )
    change = find_prompt_change(engine.preprocessing, engine.processor)
    if change and not options.force:
        raise DrivingError(f"{change}, or pass --force")
    if options.max_new_tokens == "auto":
        longest = Trajectory.from_pairs(np.tile(WIDEST_ANSWER, (answer_format.num_pairs, 1)))
        text = format_answer(longest, answer_format)
        engine.max_new_tokens = choose_max_new_tokens([text], engine.processor.tokenizer)
    else:
        engine.max_new_tokens = int(options.max_new_tokens)
    return engine


def read_answer(
    second: Second, prediction: Prediction | None, reason: str, answer_format: AnswerFormat, first: Second
) -> tuple[Shown, dict[str, Any]]:
    """(what is drawn, the line of predictions.jsonl) of one second; times count from the first frame."""
    from driving.metrics import hold_at_limits
    from driving.trajectory import Trajectory, integrate
    from evaluation.answers import parse_text
    from evaluation.overlay_video import Shown

    start, stop = second.start_s - first.start_s, second.stop_s - first.start_s
    line: dict[str, Any] = {"seen_s": [start, stop], "predicted_s": [stop, stop + second.duration_s]}
    if prediction is None:
        return Shown(second, None, "its frames cannot be read"), {**line, "parsing": "skipped", "error": reason}
    parsed = parse_text(prediction.text, answer_format)
    facts = {"text": prediction.text, "is_cut": prediction.is_cut, "num_tokens": prediction.num_tokens}
    line |= {"parsing": parsed.parsing, "error": parsed.error, **facts, "clip": prediction.clip}
    if parsed.trajectory is None:
        return Shown(second, None, "the answer could not be read"), line
    held = Trajectory(*hold_at_limits(parsed.trajectory.velocity_mps, parsed.trajectory.curvature_per_m))
    line |= {
        "velocity_mps": parsed.trajectory.velocity_mps.tolist(),
        "curvature_per_m": parsed.trajectory.curvature_per_m.tolist(),
        "path": integrate(held, answer_format.interval_s).tolist(),
    }
    return Shown(second, held), line


def _say(options: PredictOptions, info: VideoInfo, num_seconds: int, camera: CameraModel | None, note: str) -> None:
    """What will be done, before the model is loaded."""
    drawn = "on the road and from above" if camera else "from above (no --calibration)"
    print(
        f"{options.video.name}: {info.width}x{info.height} px, {info.fps_median:.4g} frames a second, "
        f"{num_seconds:,} seconds to ask about; the path is drawn {drawn}",
        flush=True,
    )
    if note:
        print(f"warning: {note}: expect worse answers", flush=True)


def summarise(out: Path, lines_path: Path, lines: Sequence[dict[str, Any]]) -> str:
    """The last line of output."""
    kinds = [line["parsing"] for line in lines]
    parts = [f"{len(lines):,} seconds"]
    parts += [f"{kinds.count(kind):,} {said}" for kind, said in _SAID.items() if kinds.count(kind)]
    return f"{', '.join(parts)}; {out} and {lines_path}"


_SAID = {
    "strict": "answered",
    "lenient": "answered in another form",
    "failed": "with an answer that cannot be read",
    "skipped": "without readable frames",
}
