"""Fine-tune Qwen3-VL on a training JSON. One page: plan, model, trainer, resume, result.

    torchrun -m qwenvl.train.train_qwen --model_name_or_path ... --dataset_use ... --output_dir ...

Run the same command again after a kill and it goes on from the newest complete checkpoint; after the end it says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.ledger import LEDGER_NAME, Skip, check_bad_fraction, claim_output, read_ledger, write_ledger
from qwenvl.train.quiet import bars_on_terminals_only, drop_harmless_messages
from qwenvl.train.ranks import run_rank

# Before torch is loaded: threads that wait must sleep. On shared cores spinning ones make a step 40 times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def train(attn_implementation: str = "auto", argv: Sequence[str] | None = None) -> int:
    """Run one training command; returns its exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the loader's workers are forked
    return run_rank(lambda: run(sys.argv[1:] if argv is None else argv, attn_implementation))


def run(argv: Sequence[str], attn_implementation: str = "auto", callbacks: Sequence[Any] = ()) -> int:
    """Resolve the plan, then train, continue, or say that all is done."""
    drop_harmless_messages()
    from qwenvl.data import parse_dataset_use
    from qwenvl.data.identity import identify_processor
    from qwenvl.data.rows import load_rows
    from qwenvl.data.stream import load_stream
    from qwenvl.train import checkpoints, elastic, loading
    from qwenvl.train.argument import parse_plan
    from qwenvl.train.out_of_memory import WatchSteps, explain_out_of_memory
    from qwenvl.train.plan_report import count_steps, plan_identity, say_other_steps
    from qwenvl.train.prepare import prepare_data, prepare_model, say
    from qwenvl.train.result import list_result, read_groups
    from qwenvl.train.skips import SkipBook, list_known, read_settled
    from qwenvl.train.stopping import STOPPED_CODE

    plan = parse_plan(argv, attn_implementation)
    begun = elastic.read_begun_plan(plan)
    if begun is not None and plan.run.elastic:
        plan = dataclasses.replace(plan, notes=(*plan.notes, *filter(None, [elastic.share_out(plan, begun)])))
    dtype = loading.weights_dtype(plan.model.precision)
    plan.model.attn_implementation = loading.choose_attention(plan.model.attn_implementation, dtype)
    uses = parse_dataset_use(plan.data.dataset_use)
    loading.check_model_folder(plan.model.model_name_or_path)
    base = _resolve_base(plan)
    starts_afresh = plan.run.overwrite_output or plan.run.dry_run
    settled = None if starts_afresh else read_settled(plan.run)
    if plan.data.streaming:
        with plan.run.main_process_first(desc="indexing"):  # the other processes of this machine read what it found
            rows = load_stream(uses, settled, show_progress=not plan.run.disable_tqdm)
        hashes = rows.digests
    else:
        rows = load_rows(uses, plan.run.seed, check_files=not plan.data.prepared_dir, settled=settled)
        hashes = {use.name: checkpoints.hash_file(use.annotation_path) for use in uses}
    data = prepare_data(plan, rows, base)
    identity = plan_identity(plan, base.identity, hashes, data.hash, identify_processor(data.dataset.processor))
    if begun is not None and plan.run.elastic:
        identity = elastic.keep_shares(identity, begun)
        data.batches.group_size = begun["batch_size"] * begun["world_size"]
    elif begun is not None:
        elastic.refuse_other_shares(identity, begun, plan.run.output_dir)
    if plan.run.dry_run:
        prepare_model(plan, rows, data, base)
        return 0
    is_main = plan.run.process_index == 0
    output_dir = Path(plan.run.output_dir)
    if is_main and not plan.run.overwrite_output:
        checkpoints.check_newest_base(output_dir, base)
    with _claim(plan, identity, checkpoints.give_up_unstarted) as output:
        total_steps = count_steps(len(data.batches), plan)[1]
        finished_steps = output.manifest.get("summary", {}).get("total_steps", 0) if is_main else 0
        if _agree(finished_steps, plan) >= total_steps:
            say(plan, f"{output_dir} is already finished ({total_steps:,} steps); nothing to do")
            return 0
        if is_main:
            output.reopen()
            say_other_steps(plan, total_steps)
            _open_ledger(output_dir / LEDGER_NAME, rows, list_known(rows), plan.data.max_bad_fraction)
        if plan.run.resume_from_checkpoint:
            asked = Path(plan.run.resume_from_checkpoint)
            resume_from, passed_over = checkpoints.find_asked(asked, identity, base), []
        else:
            resume_from, passed_over = checkpoints.find_newest_complete(output_dir, identity)
        if resume_from is not None:
            elastic.check_processes(resume_from, plan, identity["engine"])
        _check_alike(plan, identity, resume_from)
        for reason in passed_over:
            say(plan, f"{reason}; passed over")
        if resume_from is not None and checkpoints.read_step(resume_from) >= total_steps:
            summary = _take_result(plan, resume_from, data.validation_set)
        else:
            skip_book = SkipBook(
                output_dir,
                data.dataset,
                list_known(rows),
                max_bad_fraction=plan.data.max_bad_fraction,
                writes=is_main,
            )
            groups = [rows.groups, read_groups(plan.model.model_name_or_path)]
            with explain_out_of_memory() as situation:
                model = prepare_model(plan, rows, data, base, situation)
                callbacks = [*callbacks, WatchSteps(situation)]
                summary = _fit(plan, model, data, identity, base, groups, skip_book, resume_from, callbacks)
            if summary is None:
                say(plan, f"stopped as asked; run the same command again to continue from {output_dir}")
                return STOPPED_CODE
        if is_main:
            output.finish(summary, list_result(output_dir))
    say(plan, f"{output_dir}: {summary['total_steps']:,} steps, {summary['skipped']} samples skipped")
    return 0


def _resolve_base(plan: Any) -> Any:
    """The weights that the run begins from, or that it began from: a hub model stays at its commit."""
    from qwenvl.train.base_model import find_commit, resolve_base
    from qwenvl.train.loading import check_type

    path = plan.model.model_name_or_path
    commit = "" if plan.run.overwrite_output else find_commit(plan.run.output_dir, path)
    base = resolve_base(path, commit, plan.run.cache_dir)
    check_type(base.model_type, path)
    return dataclasses.replace(base, load_in_4bit=plan.model.load_in_4bit, precision=plan.model.precision)


def _open_ledger(path: Path, rows: Any, known: list[Skip], max_bad_fraction: float) -> None:
    """Write what the checks of the rows found, and what the run that is continued has skipped."""
    write_ledger(path, known)
    if rows.settled:
        print(f"{len(known):,} rows stay skipped as before, mended or not (see {path}); a new run sees them again")
    check_bad_fraction(len(rows.skips), len(rows.records) + len(rows.skips), max_bad_fraction, path)


def _take_result(plan: Any, checkpoint: Path, validation_set: Any) -> dict[str, Any]:
    """The result of a run that was stopped between its last checkpoint and its end; returns the run's summary."""
    from qwenvl.train.best import BestCheckpoint
    from qwenvl.train.prepare import say
    from qwenvl.train.result import copy_result

    output_dir = Path(plan.run.output_dir)
    whose = "its"
    if plan.run.process_index == 0:
        source = checkpoint
        if plan.run.load_best_model_at_end:
            best = BestCheckpoint(output_dir, plan.run.metric_for_best_model, validation_set.identity)
            best.record()
            source = best.find_folder() or checkpoint
        whose = "its" if source.name == checkpoint.name else f"the best one's, {source.name}'s,"
        copy_result(source, output_dir)
    say(plan, f"{checkpoint} already stands at the last step; {whose} weights are the result")
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    skipped = len(read_ledger(output_dir / LEDGER_NAME))
    return _summarise(plan, state["global_step"], state["epoch"], skipped)


def _summarise(plan: Any, num_steps: int, epoch: float, num_skipped: int) -> dict[str, Any]:
    from qwenvl.train.progress import LOG_NAME, sum_train_seconds

    log_path = Path(plan.run.output_dir) / LOG_NAME
    train_s = sum_train_seconds(log_path) if plan.run.process_index == 0 and log_path.exists() else None
    return {"total_steps": num_steps, "epoch": epoch, "skipped": num_skipped, "train_s": train_s}


def _fit(
    plan: Any,
    model: Any,
    data: Any,
    identity: dict[str, Any],
    base: Any,
    groups: list[Any],
    skip_book: Any,
    resume_from: Any,
    callbacks: Any,
) -> dict[str, Any] | None:
    """Train to the end and write the result; returns the run's summary, or None where it was asked to stop before."""
    from qwenvl.train import checkpoints
    from qwenvl.train.argument import checkpointing_field
    from qwenvl.train.base_model import complete_base
    from qwenvl.train.best import drop_lines_after, lacks_line
    from qwenvl.train.consensus import Consensus
    from qwenvl.train.plan_report import count_steps
    from qwenvl.train.prepare import say
    from qwenvl.train.stopping import StopOnRequest
    from qwenvl.train.trainer import DrivingTrainer

    name = checkpointing_field()
    if getattr(plan.run, name) and getattr(plan.run, f"{name}_kwargs") is None:
        setattr(plan.run, f"{name}_kwargs", {"use_reentrant": False})  # a frozen tower's inputs have no gradient
    trainer = DrivingTrainer(
        model,
        plan.run,
        data.dataset,
        batches=data.batches,
        flatten=plan.data.is_flat,
        run_plan=identity,
        base=complete_base(base, plan.run.cache_dir),
        groups=groups,
        skip_book=skip_book,
        validation_set=data.validation_set,
        callbacks=callbacks,
    )
    step = 0 if resume_from is None else checkpoints.read_step(resume_from)
    if plan.run.process_index == 0:
        drop_lines_after(Path(plan.run.output_dir), step)
    if step and plan.run.is_evaluated:
        lacks = lacks_line(Path(plan.run.output_dir), step, plan.run, *count_steps(len(data.batches), plan))
        plan.run.eval_on_start = _agree(lacks, plan)
    if resume_from is not None:
        say(plan, f"continuing from {resume_from}")
    stopping = StopOnRequest(Consensus(plan.run.world_size), skip_book)
    trainer.add_callback(stopping)
    with bars_on_terminals_only(), stopping:
        try:
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from is not None else None)
        finally:
            trainer.stop_workers()
        if stopping.has_stopped:
            return None
        result = trainer.save_result()
    if plan.run.load_best_model_at_end:
        last = "no checkpoint can be called the best; the result is the last"
        say(plan, f"the result is {result}" if result else last)
    trainer.accelerator.wait_for_everyone()
    return _summarise(plan, trainer.state.global_step, trainer.state.epoch, len(skip_book.skips))


def _agree(value: Any, plan: Any) -> Any:
    """Rank 0's value on every rank; waits until rank 0 has claimed the output folder."""
    if plan.run.world_size == 1:
        return value
    import torch

    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def _check_alike(plan: Any, identity: dict[str, Any], resume_from: Path | None) -> None:
    """Raise on a rank that would train another run than rank 0, as on a machine with other files."""
    from qwenvl.train.checkpoints import hash_plan

    ours = {"plan": hash_plan(identity), "checkpoint": resume_from and resume_from.name}
    first = _agree(ours, plan)
    if ours != first:
        raise DrivingError(
            f"rank {plan.run.process_index} would begin with {ours}, rank 0 with {first}; every machine needs the same "
            "model, data, code and --output_dir, best on a file system that they share"
        )


def _claim(plan: Any, identity: dict[str, Any], give_up: Any) -> contextlib.AbstractContextManager:
    """The output folder, claimed by rank 0 for all; the other ranks hold nothing."""
    if plan.run.process_index:
        return contextlib.nullcontext()
    from qwenvl.data import parse_dataset_use
    from qwenvl.data.held_out import find_validation

    uses = parse_dataset_use(plan.data.dataset_use)
    if plan.run.is_evaluated:
        uses += find_validation(uses, plan.data.eval_dataset_use)
    reads = [use.annotation_path for use in uses]
    model = Path(plan.model.model_name_or_path)
    return claim_output(
        Path(plan.run.output_dir),
        {"tool": "train", **identity},
        overwrite=plan.run.overwrite_output,
        reads=[*reads, model] if model.is_dir() else reads,
        give_up=give_up,
    )


if __name__ == "__main__":
    sys.exit(train(attn_implementation="auto"))
