"""Ask a served model about a clip, with the frames, prompt and limits of its training.

clip ──read_clips──▶ frames ──build_body──▶ request ──ask──▶ answer ──parse_text──▶ pairs
                                                      └─ prompt ids, compared with those of training
"""

from __future__ import annotations

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

    clips: tuple[Path, ...] = option(positional=True, help="videos, or folders of pictures")
    model: str = option("checkpoints/physical_ai_driving_merged", help="the folder that is served, for its papers")
    server: str = option("http://localhost:8000/v1", help="its address; its key is read from $VLLM_API_KEY")
    served_name: str = option("", help="what the server calls the model; default: the only one it serves")
    start_s: float = option(
        0.0, unit="s", parse=number(0), help="where in a longer recording the clip begins; a cut segment begins at 0"
    )
    question: str = option("", help="another question than the one that was trained on")
    max_new_tokens: int = option(
        0, unit="tokens", parse=whole_number(0), help="longest answer; 0: what the answer format needs"
    )
    pictures: str = option("png", choices=("png", "jpeg"), help="png keeps every pixel, jpeg sends about a tenth")
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
    from driving.ledger import write_json
    from evaluation.served_engine import ServedEngine
    from evaluation.server import Server, choose_model
    from evaluation.vllm_command import choose_answer_limit, load_papers

    processor, preprocessing = load_papers(Path(options.model))
    server = Server.from_environment(options.server, options.timeout_s)
    name = options.served_name if options.save_request else choose_model(server, options.served_name)
    engine = ServedEngine(server, name or "driving", processor, preprocessing, [], pictures=options.pictures)
    engine.any_prompt = options.force
    engine.max_new_tokens = options.max_new_tokens or choose_answer_limit(
        preprocessing.answer_format, processor.tokenizer
    )
    lines = []
    for clip in options.clips:
        record = build_record(clip, preprocessing, options)
        question = engine.prepare(record, engine.read(record))
        if options.save_request:
            write_json(options.save_request, question.body)
            return [f"{options.save_request}: the request about {clip}, {question.num_prompt_tokens:,} prompt tokens"]
        lines += _describe(clip, engine.generate([question])[0], preprocessing)
    return lines


def build_record(clip: Path, preprocessing: Any, options: AskOptions) -> dict[str, Any]:
    """A row about one clip, with the question that the checkpoint was trained on.

    Raises:
        DrivingError: The checkpoint knows no question and none was given, or needs the vehicle's own motion.
    """
    from driving.answer_format import AnswerFormat

    answer_format = AnswerFormat(**preprocessing.answer_format) if preprocessing.answer_format else None
    if not options.question and answer_format is None:
        raise DrivingError(f"{options.model} does not say which question it was trained on; pass --question")
    turns = [{"from": "human", "value": f"<video>\n{options.question or answer_format.question}"}]
    if answer_format is not None and answer_format.system_prompt:
        turns.insert(0, {"from": "system", "value": answer_format.system_prompt})
    # The row's form wants an answer; it is taken away before the model is asked.
    record = {"id": clip.name, "video": str(clip.absolute()), "conversations": [*turns, {"from": "gpt", "value": "?"}]}
    duration_s = answer_format.duration_s if answer_format is not None else 1.0
    if options.start_s > 0 or _is_longer(clip, preprocessing, duration_s):
        record |= {"video_start": options.start_s, "video_end": options.start_s + duration_s}
    return record


def _is_longer(clip: Path, preprocessing: Any, duration_s: float) -> bool:
    """Whether a file holds more than one clip: a second of it is asked about then, from its beginning."""
    from driving.recording import VideoAddress
    from video_io import probe_video

    if clip.is_dir() or not clip.exists():
        return False
    info = probe_video(VideoAddress(str(clip)))
    if info.frame_times_us is None:
        return False
    return (info.frame_times_us[-1] - info.frame_times_us[0]) / 1e6 > 1.2 * duration_s


def _describe(clip: Path, answer: Any, preprocessing: Any) -> list[str]:
    from driving.answer_format import AnswerFormat
    from evaluation.answers import parse_text

    cut = ", cut by the token limit" if answer.is_cut else ""
    lines = [f"{clip}: {answer.text}"]
    tokens = f"{answer.prompt_tokens:,} prompt tokens, {answer.num_tokens} tokens{cut}"
    if preprocessing.answer_format is None:
        return [*lines, f"  {tokens}"]
    parsed = parse_text(answer.text, AnswerFormat(**preprocessing.answer_format))
    return [*lines, f"  {parsed.parsing}{f': {parsed.error}' if parsed.error else ''}; {tokens}"]
