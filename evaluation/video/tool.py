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
from driving.ledger import PLAN_NAME, claim_output
from driving.option_values import number, parse_auto_tokens, parse_count, parse_device, whole_number
from driving.options import option, parse_options
from driving.recording import VideoAddress
from driving.whole_files import dump_json, remove_halves, write_atomically
from evaluation.asking.predict import PARTS_NAME

if TYPE_CHECKING:
    from evaluation.asking.engine import Engine
    from evaluation.checkpoint import Checkpoint
    from evaluation.video.overlay_video import Shown
    from evaluation.video.seconds import Second
    from video_io.probe import VideoInfo


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
    constrained: bool = option(
        False, help="let it answer in the answer format only: every answer can be read, also where it would have erred"
    )
    device: str = option("auto", parse=parse_device, help="auto, cpu, cuda or cuda:N")
    force: bool = option(False, help="go on although prompt or base model are not those of training")
    overwrite_output: bool = option(False, help="replace an OUT that this tool did not write")


EngineBuilder = Callable[["PredictOptions", AnswerFormat, "Checkpoint"], "Engine"]


@dataclass(frozen=True)
class VideoPlan:
    """What will be asked and drawn, decided before the model is loaded.

    Attributes:
        records: one a second, as training would hold it.
        camera: None where it is not known.
        note: what stands in every frame; "" for nothing.
    """

    address: VideoAddress
    info: VideoInfo
    checkpoint: Checkpoint
    answer_format: AnswerFormat
    seconds: list[Second]
    records: list[dict[str, Any]]
    camera: CameraModel | None
    note: str


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    print(run(parse_options(PredictOptions, argv))["message"])
    return 0


def run(options: PredictOptions, build_engine: EngineBuilder | None = None) -> dict[str, Any]:
    """Predict and draw; returns {"message": last line of output, "predictions": the lines written}.

    Raises:
        DrivingError: Something the user can mend; see the message.
    """
    lines_path = check_output(options)
    planned = plan_video(options)
    _say(options, planned)
    from evaluation.video.answers import find_collapse, summarise
    from evaluation.video.model import load_model
    from evaluation.video.overlay_video import write_overlay

    work = options.out.with_name(f".{options.out.name}.work")
    with claim_output(work, plan_output(options, planned), give_up=discard) as output:
        for path in (options.out, lines_path):
            remove_halves(path)
        engine = (build_engine or load_model)(options, planned.answer_format, planned.checkpoint)
        shown, lines = ask(options, planned, engine, output.folder)
        with write_atomically(lines_path, "w") as handle:
            handle.writelines(dump_json(line) + "\n" for line in lines)
        fault = write_overlay(
            options.out, planned.address, planned.info, shown, planned.camera, note=planned.note,
            max_height_px=options.max_height,
        )  # fmt: skip
    shutil.rmtree(work, ignore_errors=True)
    for warning in (fault and f"{options.out} ends early: {fault}", find_collapse(lines)):
        if warning:
            print(f"warning: {warning}", flush=True)
    return {"predictions": lines, "message": summarise(options.out, lines_path, lines)}


def plan_video(options: PredictOptions) -> VideoPlan:
    """Read the video's packets, the model's papers and the calibration.

    Raises:
        DrivingError: One of them cannot be used.
    """
    from driving.calibration import read_calibration
    from evaluation.agreement import check_papers
    from evaluation.checkpoint import read_checkpoint
    from evaluation.video.model import choose_answer_format
    from evaluation.video.seconds import build_records, explain_rate, plan_seconds
    from video_io.probe import probe_video

    camera = None if options.calibration is None else read_calibration(options.calibration)
    address = VideoAddress(str(options.video))
    info = probe_video(address)
    checkpoint = read_checkpoint(options.model, options.base_model)
    check_papers(checkpoint, force=options.force)
    answer_format = choose_answer_format(checkpoint)
    seconds = plan_seconds(info, answer_format.duration_s, options.video.name, options.every_s)
    seconds = seconds[: options.max_seconds or None]
    taught = checkpoint.preprocessing or {}
    records = build_records(options.video, seconds, answer_format, taught.get("prompt_example"))
    note = explain_rate(info, float(taught.get("video_fps", answer_format.fps)))
    return VideoPlan(address, info, checkpoint, answer_format, seconds, records, camera, note)


def ask(
    options: PredictOptions, planned: VideoPlan, engine: Engine, folder: Path
) -> tuple[list[Shown], list[dict[str, Any]]]:
    """(what is drawn of each second, its line of predictions.jsonl); what is in `folder` already is not asked again.

    Raises:
        DrivingError: No second could be asked about.
    """
    from evaluation.asking.predict import plan_batches, predict, read_parts
    from evaluation.asking.predictions import Job
    from evaluation.video.answers import read_answer

    job = Job(records=planned.records, batch_size=options.batch_size)
    predict(job, engine, folder)
    predictions, skips = read_parts(folder, len(plan_batches(job)))
    if not predictions:
        raise DrivingError(f"no second of {options.video} could be asked about; the first: {skips[0].reason}")
    reasons = {skip.id: skip.reason for skip in skips}
    by_id = {prediction.id: prediction for prediction in predictions}
    facts = {"model": options.model, "is_constrained": options.constrained, "note": planned.note}
    shown, lines = [], []
    for second, record in zip(planned.seconds, planned.records, strict=True):
        name = record["id"]
        zero_s = planned.seconds[0].start_s
        answer, line = read_answer(second, zero_s, by_id.get(name), reasons.get(name, ""), planned.answer_format)
        shown.append(answer)
        lines.append({"id": name, **line, **facts})
    return shown, lines


def check_output(options: PredictOptions) -> Path:
    """Where the predictions go; raises where the output would spoil something.

    Raises:
        DrivingError: OUT is a folder or no .mp4, is the video itself, or is a file that this tool did not write.
    """
    out, video = options.out, options.video
    if out.is_dir():
        raise DrivingError(f"--out {out} is a folder; name the video in it, like {out / 'overlay.mp4'}")
    lines_path = out.with_name(f"{out.stem}.predictions.jsonl")
    if out.suffix.lower() != ".mp4":
        raise DrivingError(f"--out {out} is no .mp4: overlays are written as mp4; name it {out.stem}.mp4")
    if not video.exists():
        raise DrivingError(f"{video} is not there; give the path of a video")
    if video.is_dir():
        raise DrivingError(f"{video} is a folder; give one video file")
    if out.exists() and out.samefile(video):
        raise DrivingError(f"--out {out} is the video itself, which would be lost; name another")
    if out.exists() and not lines_path.exists() and not options.overwrite_output:
        raise DrivingError(
            f"--out {out} is there and was not written by this tool (no {lines_path.name} beside it); name another, or "
            "pass --overwrite-output"
        )
    return lines_path


def plan_output(options: PredictOptions, planned: VideoPlan) -> dict[str, Any]:
    """What the answers depend on: a stopped run goes on only with the same."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported
    from evaluation.asking.engine import describe_device

    status, checkpoint = options.video.stat(), planned.checkpoint
    return {
        "tool": "predict",
        "video": [str(options.video.resolve()), status.st_size, status.st_mtime_ns],
        "model": [checkpoint.name, checkpoint.fingerprint, checkpoint.base],
        "device": describe_device(options.device),
        "num_seconds": len(planned.records),
        "every_s": options.every_s,
        "batch_size": options.batch_size,
        "max_new_tokens": options.max_new_tokens,
        "constrained": options.constrained,
    }


def discard(folder: Path) -> bool:
    """Throw away the answers of another video or model, which was stopped: they are of no use to this one."""
    shutil.rmtree(folder / PARTS_NAME, ignore_errors=True)
    (folder / PLAN_NAME).unlink()
    return True


def _say(options: PredictOptions, planned: VideoPlan) -> None:
    """What will be done, before the model is loaded."""
    info = planned.info
    drawn = "on the road and from above" if planned.camera else "from above (no --calibration)"
    print(
        f"{options.video.name}: {info.width}x{info.height} px, {info.fps_median:.4g} frames a second, "
        f"{len(planned.seconds):,} windows of {planned.answer_format.duration_s:g} s to ask about; "
        f"the path is drawn {drawn}",
        flush=True,
    )
    if planned.note:
        print(f"warning: {planned.note}: expect worse answers", flush=True)
