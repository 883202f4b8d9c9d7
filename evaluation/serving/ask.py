"""Ask a served model about a clip, with the frames, prompt and limits of its training.

clip ──read_clips──▶ frames ──build_body──▶ request ──ask──▶ answer ──parse_text──▶ pairs
                                                      └─ prompt ids, compared with those of training
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.option_values import number, whole_number
from driving.options import option, parse_options


@dataclass(frozen=True)
class AskOptions:
    """Ask a model that an OpenAI-compatible server (vLLM) serves about clips, as it was asked in training.

    Reads the clips and the checkpoint's processor and preprocessing.json, no weights; prints the answers, or with
    --save-request writes the request instead of sending it. Running twice is safe: nothing is changed.
    """

    clips: tuple[Path, ...] = option(positional=True, help="videos of any rate and size")
    model: str = option("checkpoints/physical_ai_driving_merged", help="the folder that is served, for its papers")
    server: str = option("http://localhost:8000/v1", help="its address; its key is read from $VLLM_API_KEY")
    served_name: str = option("", help="what the server calls the model; default: the only one it serves")
    start_s: float = option(0.0, unit="s", parse=number(0), help="where in a longer recording the asked stretch begins")
    question: str = option("", help="another question than the one that was trained on")
    max_new_tokens: int = option(
        0, unit="tokens", parse=whole_number(0), help="longest answer; 0: what the answer format needs"
    )
    pictures: str = option("png", choices=("png", "jpeg"), help="png keeps every pixel, jpeg sends under a third")
    timeout_s: float = option(300.0, unit="s", parse=number(0, above=True), help="wait this long for an answer")
    force: bool = option(False, help="take answers although the server renders another prompt than training did")
    save_request: Path | None = option(None, help="write the request's body there, and ask nothing")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    for line in run(parse_options(AskOptions, argv)):
        print(line, flush=True)
    return 0


def run(options: AskOptions) -> list[str]:
    """Ask about every clip; lines to print.

    Raises:
        DrivingError: A clip cannot be read, or the server does not answer as it should.
    """
    from driving.whole_files import write_json

    if options.save_request and len(options.clips) > 1:
        raise DrivingError(f"--save-request holds one request, and {len(options.clips)} clips are named; name one")
    from evaluation.asking.answer_limit import choose_answer_limit
    from evaluation.serving.client import Server, choose_model
    from evaluation.serving.engine import ServedEngine
    from evaluation.serving.vllm_command import load_papers, read_format

    processor, preprocessing = load_papers(Path(options.model))
    server = Server.from_environment(options.server, options.timeout_s)
    name = options.served_name if options.save_request else choose_model(server, options.served_name)
    engine = ServedEngine(server, name or "driving", processor, preprocessing, [], pictures=options.pictures)
    engine.any_prompt = options.force
    engine.max_new_tokens = options.max_new_tokens or choose_answer_limit(
        read_format(preprocessing), processor.tokenizer
    )
    lines = []
    for clip in options.clips:
        record, note = build_record(clip, preprocessing, options.start_s, options.question)
        question = engine.prepare(record, engine.read(record))
        if options.save_request:
            write_json(options.save_request, question.body)
            return [f"{options.save_request}: the request about {clip}, {question.num_prompt_tokens:,} prompt tokens"]
        lines += _describe(clip, engine.generate([question])[0], preprocessing, note)
    return lines


def build_record(
    clip: Path, preprocessing: Any, start_s: float = 0.0, question: str = ""
) -> tuple[dict[str, Any], str]:
    """A row about one stretch of a video, with the question that the checkpoint was trained on: (row, remark).

    Args:
        start_s: of the stretch, from the first frame.
        question: instead of the trained one.

    Raises:
        DrivingError: The checkpoint knows no question and none was given, it needs the vehicle's own motion, or the
            video cannot give the stretch.
    """
    from driving.answer_format import AnswerFormat
    from driving.clock import US_PER_S
    from driving.recording import VideoAddress
    from evaluation.serving.vllm_command import read_format
    from evaluation.video.seconds import Second, build_records, explain_rate, plan_seconds
    from video_io import probe_video

    if not clip.exists():
        raise DrivingError(f"{clip} is not there; give the path of a video")
    if clip.is_dir():
        raise DrivingError(f"{clip} is a folder; give one video file")
    taught = read_format(preprocessing)
    if taught is None and not question:
        raise DrivingError("this checkpoint does not say which question it was trained on; pass --question")
    answer_format = taught or AnswerFormat(system_prompt="")
    if question:
        answer_format = dataclasses.replace(answer_format, user_instruction=question, history_pairs=0)
    info = probe_video(VideoAddress(str(clip)))
    seconds = plan_seconds(info, answer_format.duration_s, clip.name)
    first_s = info.frame_times_us[0] / US_PER_S + start_s
    if first_s > seconds[-1].stop_s - answer_format.duration_s / 2:
        raise DrivingError(f"{clip} ends at {seconds[-1].stop_s:.2f} s; --start-s {start_s:g} is too late")
    second = Second(0, first_s, first_s + answer_format.duration_s)
    record = build_records(clip, [second], answer_format, preprocessing.prompt_example)[0]
    return record, explain_rate(info, preprocessing.video_fps)


def _describe(clip: Path, answer: Any, preprocessing: Any, note: str) -> list[str]:
    from evaluation.scoring.answers import parse_text
    from evaluation.serving.vllm_command import read_format

    facts = [f"{answer.prompt_tokens:,} prompt tokens", f"{answer.num_tokens} tokens"]
    facts += ["cut by the token limit"] * answer.is_cut + [note] * bool(note)
    taught = read_format(preprocessing)
    if taught is not None:
        parsed = parse_text(answer.text, taught)
        facts.insert(0, f"{parsed.parsing}: {parsed.error}" if parsed.error else parsed.parsing)
    return [f"{clip}: {answer.text}", f"  {'; '.join(facts)}"]
