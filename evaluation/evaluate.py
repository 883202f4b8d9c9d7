"""A trained model and a test.json -> predictions, honest numbers and a report.

test.json, truth.parquet, dataset.json, checkpoint ──plan_run──▶ Run (rows, controls, stamps, plan)
    ──predict──▶ parts/ ──▶ predictions.jsonl, control_predictions.jsonl, skipped.jsonl
    ──measure──▶ metrics.json ──▶ report.html ──▶ manifest.json, last
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.errors import DrivingError
from driving.ledger import MANIFEST_NAME, MAX_BAD_FRACTION, check_whole, claim_output, list_entries
from driving.option_values import number, parse_auto_tokens, parse_count, parse_device, parse_share, whole_number
from driving.options import option, parse_options
from evaluation.asking.engine import Engine
from evaluation.asking.workers import parse_devices
from evaluation.scoring.skill import GATE_FAILED, check_gate, judge_gate, parse_gate

if TYPE_CHECKING:
    from evaluation.planning import Run

EngineFactory = Callable[..., tuple[Engine, dict[str, Any]]]


@dataclass(frozen=True)
class EvaluateOptions:
    """Ask a model about held-out clips and score its answers against the recorded motion.

    Reads a training JSON with truth.parquet and dataset.json beside it, and the preprocessing saved with the model;
    writes predictions.jsonl, metrics.json and report.html. Running twice is safe: answers already given are kept.
    """

    model: str = option(
        "checkpoints/physical_ai_driving_lora", help="adapter folder, full model folder, or a base model's name"
    )
    test_data: Path = option(Path("qwen_video_dataset_training/test.json"), help="rows to ask about")
    output_dir: Path = option(Path("evaluation_results"), help="where predictions, numbers and the report are written")
    base_model: str = option("", help="where an adapter's base model is now; default: where it was in training")
    truth: Path | None = option(None, help="recorded motion by id; default: truth.parquet beside the test data")
    train_truth: Path | None = option(
        None, help="truth.parquet whose train rows give the training mean; default: the same file"
    )
    prepared_dir: Path | None = option(
        None, help="read the frames that scripts/prepare_cache.py wrote there; default: decode the videos"
    )
    batch_size: int = option(16, parse=whole_number(1), help="clips asked at once")
    max_samples: int = option(
        0, parse=parse_count, help="ask about this many rows, spread evenly over the recordings; 0 means all"
    )
    max_new_tokens: int | str = option(
        "auto", unit="tokens", parse=parse_auto_tokens, help="longest answer; auto: the longest true one and a margin"
    )
    controls: str = option(
        "auto",
        help="altered inputs: frozen,wrong_clip,mirror,blank,shuffled, with ego history no_history,wrong_history too; "
        "auto: without blank and shuffled; all or none",
    )
    control_samples: int = option(
        0, parse=parse_count, help="show the controls for this many rows, spread over the recordings; 0 means all"
    )
    constrained: bool = option(
        False, help="ask each row a second time, the answer kept to its format; scored beside the free answer"
    )
    num_samples: int = option(
        0, parse=parse_count, help="draw this many further answers a row, scored beside the single one; 0 means none"
    )
    temperature: float = option(
        1.0, parse=number(0, above=True), help="of the drawn answers; 1 is the model's own distribution"
    )
    top_p: float = option(
        1.0, parse=number(0, 1, above=True), help="draw from the likeliest tokens that hold this share of probability"
    )
    frame_baseline: bool = option(
        False, help="add a baseline without a network that reads the frames, fitted to up to 2,000 clips of train.json"
    )
    device: str = option("auto", parse=parse_device, help="auto, cpu, cuda or cuda:N")
    devices: str = option(
        "",
        parse=parse_devices,
        help="one worker process each: cuda:0,cuda:1, or all (GPUs), or cpux2 (two on the CPU); the same answers as "
        "one; default: --device alone, without workers",
    )
    server: str = option(
        "",
        help="address of a server that answers in the model's place (scripts/vllm_command.py prints its line); the "
        "model folder then gives only its papers",
    )
    served_name: str = option("", help="what the server calls the model; default: the only one it serves")
    bootstrap: int = option(2000, parse=whole_number(1), help="resamples of the clips behind each interval")
    seed: int = option(7, parse=parse_count, help="seed of the choice of rows, the wrong clips and the resamples")
    max_bad_fraction: float = option(
        MAX_BAD_FRACTION, parse=parse_share, help="fail when more of the rows (and more than 3) cannot be asked"
    )
    force: bool = option(
        False,
        help="evaluate although test recordings were trained on (stamped), or prompt or base model are not those of "
        "training",
    )
    require_beat: str = option(
        "",
        parse=parse_gate,
        help="end with exit code 3 unless the whole interval of ADE lies below this baseline's; auto: train_mean for "
        "video only, ctra where the model is told its past; empty: never",
    )
    rescore: bool = option(False, help="score the stored predictions again and write the report again; ask nothing")
    overwrite_output: bool = option(False, help="delete what is in the output folder first")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    options = parse_options(EvaluateOptions, argv)
    metrics = run(options)
    print(metrics["message"])
    if not options.require_beat:
        return 0
    print(metrics["gate"]["sentence"])
    return 0 if metrics["gate"]["holds"] else GATE_FAILED


def run(options: EvaluateOptions, build_engine: EngineFactory | None = None) -> dict[str, Any]:
    """Evaluate and return metrics.json's content with a one-line `message`.

    Args:
        build_engine: (planned, options) -> (engine, facts for run.json); default: load the model.

    Raises:
        DrivingError: Something the user can mend; see the message.
    """
    from evaluation.asking.predict import plan_batches, read_parts
    from evaluation.frame_baseline import find_train_json
    from evaluation.outputs import ANSWER_FILES, finish_run, has_answers, read_metrics, summarise_run, write_predictions
    from evaluation.planning import plan_run

    planned = plan_run(options, describe_machine(options) if build_engine is None else options.device)
    check_gate(options.require_beat, planned.truth, reads_frames=options.frame_baseline)
    if options.frame_baseline:
        find_train_json(options)
    overwrite = options.overwrite_output and not options.rescore
    if options.rescore and (options.output_dir / MANIFEST_NAME).exists():
        advice = "put the answers back as they were, or run without --rescore to ask the model again"
        check_whole(options.output_dir, advice, ANSWER_FILES)
    reads = _list_reads(options)
    with claim_output(
        options.output_dir, planned.plan, overwrite=overwrite, reads=reads, give_up=has_no_answer
    ) as output:
        metrics = read_metrics(output.folder) if output.is_complete else {}
        if output.is_complete and not options.rescore and is_scored_with(metrics, planned):
            if options.frame_baseline and "frame_motion" not in metrics:
                raise DrivingError(f"{output.folder} was finished without --frame-baseline; add --rescore")
            metrics["gate"] = judge_gate(metrics, options.require_beat)
            return {**metrics, "message": f"already complete: {summarise_run(metrics, output.folder)}"}
        if output.is_complete:
            output.reopen()
        timing = output.manifest.get("summary", {}).get("timing", {})
        if not has_answers(output.folder):
            if options.rescore:
                raise DrivingError(f"{output.folder} holds no finished run to score again; run without --rescore")
            started = time.monotonic()
            facts = ask_all(planned, options, output.folder, build_engine or choose_loader(options))
            predictions, skips = read_parts(output.folder, len(plan_batches(planned.job)))
            write_predictions(output.folder, predictions, skips, planned, facts, options.max_bad_fraction)
            timing = {"predict_s": round(time.monotonic() - started, 1)}
        metrics = finish_run(output, planned, options, timing)
        shutil.rmtree(output.folder / "parts", ignore_errors=True)
    return {**metrics, "message": summarise_run(metrics, options.output_dir)}


def is_scored_with(metrics: dict[str, Any], planned: Run) -> bool:
    """Whether a finished run's numbers are of the recorded motion as it is now; says so where they are not."""
    then, now = metrics["data"].get("scored_with", {}), planned.scored_with
    changed = [name for name in ("truth", "train_truth") if then.get(f"{name}_hash") != now[f"{name}_hash"]]
    if changed:
        path = now[changed[0]]
        print(f"{path} is not what these answers were scored with: scored again, nothing is asked", flush=True)
    return not changed


def ask_all(planned: Run, options: EvaluateOptions, folder: Path, build_engine: EngineFactory) -> dict[str, Any]:
    """Write the parts that are missing, in this process or in one a device; returns the facts for run.json."""
    from evaluation.asking.predict import plan_batches, predict, read_speed
    from evaluation.asking.workers import list_devices, predict_on

    devices = list_devices(options.devices)
    if len(devices) > 1:
        facts = predict_on(devices, planned, options, folder, build_engine)
    else:
        alone = dataclasses.replace(options, device=devices[0]) if devices else options
        engine, facts = build_engine(planned, alone)
        predict(planned.job, engine, folder)
    kinds = read_speed(folder, len(plan_batches(planned.job)))
    return {**facts, "speed": {"num_workers": max(1, len(devices)), "kinds": kinds}}


def describe_machine(options: EvaluateOptions) -> str:
    """What will answer, as the plan holds it.

    Raises:
        DrivingError: A device is not there, or a server is asked for what only weights at hand can do.
    """
    # Before torch is imported: two processes that share the cores wait for each other by sleeping, 40 times faster.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from evaluation.asking.engine import describe_device
    from evaluation.asking.workers import list_devices

    if options.server:
        from evaluation.serving.engine import check_served

        check_served(options)
        return f"server {options.server}"
    return describe_device([*list_devices(options.devices), options.device][0])


def has_no_answer(folder: Path) -> bool:
    """Whether a run that stopped (at a mistyped model, say) left nothing worth keeping for."""
    return not list_entries(folder)


def _list_reads(options: EvaluateOptions) -> list[Path]:
    """What must not be written over: the rows, the truth, and the model where it is a folder here."""
    named = [options.test_data, options.truth, options.train_truth, Path(options.model), Path(options.base_model)]
    return [path for path in named if path is not None and path != Path() and path.exists()]


def choose_loader(options: EvaluateOptions) -> EngineFactory:
    """Weights on this machine, or a server."""
    if not options.server:
        return load_model
    from evaluation.serving.engine import load_served

    return load_served


def load_model(planned: Run, options: EvaluateOptions) -> tuple[Engine, dict[str, Any]]:
    """The default engine: the model with the token limit that this run's answers need, and what to say about it."""
    from evaluation.asking.engine import load_engine
    from qwenvl.train.generation import choose_max_new_tokens

    engine = load_engine(
        options.model,
        options.device,
        [options.test_data.parent, Path.cwd()],
        base_model=options.base_model,
        force=options.force,
        fps=planned.dataset.get("fps") if planned.checkpoint.preprocessing is None else None,
    )
    if options.prepared_dir is not None:
        engine.use_prepared(options.prepared_dir, planned.job.records)
    if options.max_new_tokens == "auto":
        engine.max_new_tokens = choose_max_new_tokens(planned.true_answers, engine.processor.tokenizer)
    else:
        engine.max_new_tokens = int(options.max_new_tokens)
    if options.constrained:
        engine.keep_to_format(planned.answer_format)
    return engine, {"model": engine.describe(), "max_new_tokens": engine.max_new_tokens}
