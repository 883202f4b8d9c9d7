"""Evaluation inside training: the loss of held-out rows and generated answers, without a trace in the training.

    samples ──this rank's batches──▶ the training step's own forward ──▶ sum of losses ─┐
    prompts ──this rank's batches──▶ generate ──▶ texts ───────────────────────────────┤ gathered from all ranks
                                                                       Evaluation ◀─────┘

Rows are dealt to the ranks as training rows are; each rank takes the same number of batches, so that under ZeRO-3 all
ranks are in the same module at the same time. Random states and the modes of all modules are put back as they were.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn
from tqdm import tqdm
from transformers.integrations import is_deepspeed_zero3_enabled

from driving.errors import DrivingError
from driving.ledger import Skip
from driving.records import media_paths
from qwenvl.data.collate import to_step_inputs
from qwenvl.data.dataset import BadSample, DrivingDataset
from qwenvl.data.dummies import build_dummy
from qwenvl.train.answer_scores import Answered, score_answers
from qwenvl.train.generation import Generated, find_end_tokens, generate_answers
from qwenvl.train.out_of_memory import is_out_of_memory
from qwenvl.train.samplers import EpochBatches, EpochLoader
from qwenvl.train.stopping import outlive_foreign_stop
from qwenvl.train.validation_set import ValidationSet


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found; the same on every rank.

    Attributes:
        metrics: under the names of the log, "eval_loss" and so on.
        answered: the rows that were answered, in their order.
        collapses: a sentence for each way in which the answers are all the same.
        skips: rows that could not be used.
    """

    metrics: dict[str, float]
    answered: list[Answered]
    collapses: list[str]
    skips: list[Skip]


class Validator:
    """Measures a model on a ValidationSet.

    Args:
        collate: of training samples; makes the batches of the loss.
        pixel_dtype: of the frames that the model is shown.
        autocast: the mixed precision of the run, as a context.
    """

    def __init__(
        self,
        validation_set: ValidationSet,
        args: Any,
        collate: Callable[[list[Any]], dict[str, Any]],
        pixel_dtype: torch.dtype,
        autocast: Callable[[], contextlib.AbstractContextManager],
    ) -> None:
        self.set = validation_set
        self.args = args
        self.collate = collate
        self.pixel_dtype = pixel_dtype
        self.autocast = autocast
        self.processor = validation_set.samples.processor

    def evaluate(self, model: nn.Module) -> Evaluation:
        """Loss and answers; called by all ranks at once.

        Raises:
            DrivingError: A clip cannot be decoded in time, nothing is usable, or the memory does not hold a batch.
        """
        started_s = time.monotonic()
        bad: list[BadSample] = []
        try:
            with leave_no_trace(model), self.autocast(), self._open_bar() as bar:
                losses = self._sum_losses(model, bar, bad)
                answers = self._answer(model, bar, bad)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DrivingError(
                f"evaluating {self.args.per_device_eval_batch_size} rows at once does not fit into the memory of "
                f"{self.args.device}; use a smaller --per_device_eval_batch_size"
            ) from error
        sums = gather_object([losses])
        answered = [answer for _, answer in sorted(gather_object(answers), key=lambda pair: pair[0])]
        skips = {skip.id: skip for skip in gather_object([Skip(row.id, "evaluate", row.reason) for row in bad])}
        num_tokens = sum(count for _, count, _ in sums)
        if not num_tokens:
            raise DrivingError(
                f"none of {len(self.set.samples):,} rows can be evaluated: {next(iter(skips.values())).reason}"
            )
        scores = score_answers(answered)
        metrics = {
            "loss": math.fsum(loss for loss, _, _ in sums) / num_tokens,
            "rows": sum(count for _, _, count in sums),
            "answers": len(answered),
            **scores.metrics,
            "seconds": round(time.monotonic() - started_s, 3),
        }
        named = {f"eval_{name}": value for name, value in metrics.items()}
        return Evaluation(named, answered, scores.collapses, list(skips.values()))

    def _sum_losses(self, model: nn.Module, bar: tqdm, bad: list[BadSample]) -> tuple[float, int, int]:
        """(sum of losses, supervised tokens, rows) of this rank."""
        losses, num_tokens, num_rows = [], 0, 0
        with self._load(self.set.samples, self.collate) as batches:
            for batch in batches:
                self._note(batch["bad"], bad)
                inputs = to_step_inputs(batch, self.processor, self.args.device, self.pixel_dtype)
                losses.append(model(**inputs)["loss"].float())
                num_tokens += batch["num_supervised"]
                num_rows += batch["num_samples"]
                bar.update()
        return math.fsum(torch.stack(losses).tolist()), num_tokens, num_rows

    def _answer(self, model: nn.Module, bar: tqdm, bad: list[BadSample]) -> list[tuple[int, Answered]]:
        """(place among the prompts, answer) of this rank's prompts."""
        if not len(self.set.prompts):
            return []
        end_tokens = find_end_tokens(model, self.processor.tokenizer)
        fillers = self._build_fillers() if is_deepspeed_zero3_enabled() else {}
        answers = []
        with self._load(self.set.prompts, list) as batches:
            for rows, samples in zip(self._deal(self.set.prompts), batches, strict=True):
                self._note([sample for sample in samples if isinstance(sample, BadSample)], bad)
                shown = [(row, sample) for row, sample in zip(rows, samples, strict=True) if isinstance(sample, dict)]
                prompts = [sample for _, sample in shown]
                prompts += [one for kind, one in fillers.items() if not any(sample[kind] for sample in prompts)]
                texts = self._ask(model, prompts, end_tokens)[: len(shown)]
                for (row, sample), answer in zip(shown, texts, strict=True):
                    truth, answer_format = self.set.truths[row], self.set.formats[row]
                    answers.append((row, Answered(sample["id"], truth, answer.text, answer_format, answer.is_cut)))
                bar.update()
        return answers

    def _ask(self, model: nn.Module, prompts: list[dict[str, Any]], end_tokens: list[int]) -> list[Generated]:
        if not prompts:
            return []
        return generate_answers(
            model,
            self.processor,
            prompts,
            max_new_tokens=self.set.max_new_tokens,
            end_tokens=end_tokens,
            device=self.args.device,
            dtype=self.pixel_dtype,
        )

    def _build_fillers(self) -> dict[str, dict[str, Any]]:
        """A prompt for each kind of media among the prompts of all ranks, to be asked where a batch shows none.

        Under ZeRO-3 every rank must call the tower as often as the others, which `generate` does once a kind, and must
        have something to ask at all.
        """
        names = {"images": "image", "videos": "video"}
        kinds = [
            kind for kind, name in names.items() if any(media_paths(row, name) for row in self.set.prompts.records)
        ]
        return {kind: build_dummy(self.processor, kind) for kind in kinds or ["videos"]}

    def _note(self, found: list[BadSample], bad: list[BadSample]) -> None:
        for row in found:
            if row.stops_run:
                raise DrivingError(row.reason)
        bad += found

    def _deal(self, dataset: DrivingDataset) -> EpochBatches:
        args = self.args
        size = args.per_device_eval_batch_size
        return EpochBatches(len(dataset), size, args.seed, args.process_index, args.world_size)

    @contextlib.contextmanager
    def _load(self, dataset: DrivingDataset, collate: Callable[[list[Any]], Any]) -> Iterator[EpochLoader]:
        num_workers = min(self.args.dataloader_num_workers, len(dataset))
        loader = EpochLoader(
            dataset,
            batch_sampler=self._deal(dataset),
            collate_fn=collate,
            num_workers=num_workers,
            worker_init_fn=outlive_foreign_stop,
            persistent_workers=num_workers > 0,
            multiprocessing_context="fork" if num_workers else None,
            prefetch_factor=1 if num_workers else None,  # training's workers hold frames in /dev/shm meanwhile
            generator=torch.Generator(),  # the workers' seeds must not draw from the run's random state
        )
        try:
            yield loader
        finally:
            loader.stop_workers()

    def _open_bar(self) -> tqdm:
        batches = len(self._deal(self.set.samples)) + len(self._deal(self.set.prompts))
        is_hidden = self.args.disable_tqdm or self.args.process_index > 0
        return tqdm(total=batches, desc="evaluate", unit="batch", leave=False, disable=True if is_hidden else None)


@contextlib.contextmanager
def leave_no_trace(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards random states and each module's mode are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    states = random.getstate(), np.random.get_state()
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            model.eval()
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        random.setstate(states[0])
        np.random.set_state(states[1])
        if device.type == "cuda":
            torch.cuda.empty_cache()  # blocks cut for generation do not fit a training step
