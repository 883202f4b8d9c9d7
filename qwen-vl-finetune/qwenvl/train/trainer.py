"""transformers' Trainer, with our batches, our loss weighting, checkpoints that can be trusted, and a readable log."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import broadcast_object_list
from tqdm import tqdm
from transformers.trainer_callback import ProgressCallback

from qwenvl.data.collate import collate, to_step_inputs
from qwenvl.data.dataset import DrivingDataset
from qwenvl.data.dummies import build_dummy
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.train import checkpoints
from qwenvl.train.argument import TrainingArguments
from qwenvl.train.base_model import BaseModel
from qwenvl.train.best import BestCheckpoint, add_line
from qwenvl.train.disk import explain_failed_save
from qwenvl.train.elastic import draw_seed
from qwenvl.train.evaluation_lines import format_evaluation
from qwenvl.train.finiteness import LossWatch, check_weights
from qwenvl.train.meter import StepMeter, read_peak_memory_gib
from qwenvl.train.parts import LANGUAGE, MERGER, VISION, part_of
from qwenvl.train.progress import LogFile, StepLines
from qwenvl.train.result import copy_result
from qwenvl.train.samplers import PREFETCH_FACTOR, EpochBatches, EpochLoader
from qwenvl.train.skips import SkipBook
from qwenvl.train.stopping import outlive_foreign_stop
from qwenvl.train.stream_loader import SampleStream, StreamBatches, StreamLoader, jump_over_batches
from qwenvl.train.validation import Validator
from qwenvl.train.validation_set import ValidationSet


class DrivingTrainer(transformers.Trainer):
    """Trains on a DrivingDataset; everything that must survive a kill is in its checkpoints.

    Attributes:
        batches: which rows make which batch.
        run_plan: JSON values that must match for a run to be continued.
        base: the weights that it began from.
        groups: recordings (clips, rides) of the rows trained on, and of those that its base has seen.
        skip_book: samples that could not be used.
        validation_set: held-out rows that it is judged on meanwhile; None for none.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        dataset: DrivingDataset,
        *,
        batches: EpochBatches,
        flatten: bool,
        run_plan: dict[str, Any],
        base: BaseModel,
        groups: Sequence[Iterable[str]],
        skip_book: SkipBook,
        validation_set: ValidationSet | None = None,
        callbacks: Sequence[transformers.TrainerCallback] = (),
    ) -> None:
        self.driving_processor = dataset.processor
        self.preprocessing: Preprocessing = dataset.preprocessing
        self.run_plan = run_plan
        self.base = base
        self.groups = groups
        self.skip_book = skip_book
        self.num_checkpoints_kept = args.save_total_limit
        args.save_total_limit = None  # transformers would delete the old one before ours is complete
        self.batches = batches
        self.loader: EpochLoader | None = None
        self.loss_watch = LossWatch()
        collator = functools.partial(
            collate,
            pad_token_id=self.driving_processor.tokenizer.pad_token_id,
            dummy=build_dummy(self.driving_processor),
            flatten=flatten,
        )
        super().__init__(
            model=model,
            args=args,
            train_dataset=dataset,
            eval_dataset=None if validation_set is None else validation_set.samples,
            data_collator=collator,
            callbacks=[*callbacks, LogFile()],
        )
        for plain in (transformers.PrinterCallback, ProgressCallback):  # whichever --disable_tqdm brought
            self.remove_callback(plain)
        self.add_callback(StepLines())
        self.meter = StepMeter(functools.partial(read_peak_memory_gib, self.args.device))
        self.add_callback(self.meter)
        self.model_accepts_loss_kwargs = True  # the loss is divided by the tokens of all micro-batches and ranks
        self.validator: Validator | None = None
        self.best: BestCheckpoint | None = None
        if validation_set is not None:
            self.validator = Validator(validation_set, args, collator, self.pixel_dtype, self.accelerator.autocast)
            self.best = BestCheckpoint(Path(args.output_dir), args.metric_for_best_model, validation_set.identity)

    # Batches

    def get_train_dataloader(self) -> EpochLoader:
        dataset, args = self.train_dataset, self.args
        num_workers = args.dataloader_num_workers
        settings: dict[str, Any] = {
            "collate_fn": self.data_collator,
            "num_workers": num_workers,
            "worker_init_fn": outlive_foreign_stop,
            "persistent_workers": num_workers > 0,
            # The workers must inherit the frame cache, which only a fork does.
            "multiprocessing_context": "fork" if num_workers else None,
            "prefetch_factor": (args.dataloader_prefetch_factor or PREFETCH_FACTOR) if num_workers else None,
            "pin_memory": args.dataloader_pin_memory and torch.cuda.is_available(),
            "generator": torch.Generator(),  # the workers' seeds must not draw from the run's random state
        }
        if isinstance(self.batches, StreamBatches):
            self.loader = StreamLoader(SampleStream(dataset, self.batches), **settings)
        else:
            self.loader = EpochLoader(dataset, batch_sampler=self.batches, **settings)
        return self.loader

    def num_examples(self, dataloader: Any) -> int:
        return len(self.train_dataset)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with jump_over_batches():
            return super().train(*args, **kwargs)

    def stop_workers(self) -> None:
        """End the loader's workers, where there are any."""
        if self.loader is not None:
            self.loader.stop_workers()

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.current_ids = inputs["ids"]
        for bad in inputs["bad"]:
            self.skip_book.note(bad)
        return to_step_inputs(inputs, self.driving_processor, self.args.device, self.pixel_dtype)

    @property
    def pixel_dtype(self) -> torch.dtype:
        if self.args.device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else torch.float32

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Supervised tokens of a step, over its micro-batches and all ranks; stays on the device."""
        # Filled there: a number copied to the device would wait for it.
        self.step_ids = [name for batch in batch_samples for name in batch["ids"]]
        count = torch.full((), sum(batch["num_supervised"] for batch in batch_samples), device=device)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(count)
        return count.clamp(min=1)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        return super().get_batch_samples(self.meter.watch(epoch_iterator), num_batches, device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The line of a logged step also says what all ranks did since the last one."""
        if "loss" in logs:
            logs.update(self.meter.close_window(self._gather_rows, self.state.max_steps - self.state.global_step))
        super().log(logs, start_time)

    def _gather_rows(self, row: list[float]) -> list[list[float]]:
        return self.accelerator.gather(torch.tensor([row], device=self.args.device)).tolist()

    # One step

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's share of the step's mean loss over supervised tokens.

        Times the number of ranks, since their gradients are averaged. A loss that is not finite ends the run.
        """
        loss_sum = model(**inputs)["loss"]
        self.loss_watch.note(loss_sum, self.current_ids, self.state.global_step + 1)
        loss = loss_sum * (self.args.world_size / num_items_in_batch)
        return (loss, None) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Also looked at: a finite loss can have a gradient that is not, and every later weight would be NaN."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not self.args.fp16:  # with fp16 such a step is left out and the scale lowered
            self.loss_watch.note(torch.as_tensor(norm), self.step_ids, self.state.global_step + 1, "gradient")
        return norm

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # transformers' estimate ignores the vision tower and walks all parameters at every step

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """One group per part and decay, so that each part's learning rate works on its own."""
        model = self.model if model is None else model
        if self.optimizer is None:
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, model)
            decayed = set(self.get_decay_parameter_names(model))
            self.optimizer = optimizer_class(plan_parameter_groups(model, self.args, decayed), **settings)
        return self.optimizer

    # Evaluation

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Loss and answers on the held-out rows: on the screen, in training_log.jsonl and in eval_log.jsonl."""
        evaluation = self.validator.evaluate(self.model)
        step = self.state.global_step
        if self.args.process_index == 0:
            add_line(Path(self.args.output_dir), step, self.best.identity, evaluation)
            for line in format_evaluation(step, evaluation, self.args.metric_for_best_model):
                tqdm.write(line)
            self.best.record()
        metrics = evaluation.metrics
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether no checkpoint is as good; with --load_best_model_at_end such weights are saved at once."""
        is_new = self._agree(self.args.process_index == 0 and self.best.is_new(self.state.global_step))
        if is_new and self.args.load_best_model_at_end:
            self.control.should_save = True
        return is_new

    def _agree(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        return broadcast_object_list([value])[0]

    # Checkpoints

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None or checkpoints.read_num_processes(Path(checkpoint)) == self.args.world_size:
            super()._load_rng_state(checkpoint)
        else:  # --elastic: the states in it are those of other ranks
            step, rank = checkpoints.read_step(Path(checkpoint)), self.args.process_index
            transformers.set_seed(draw_seed(self.args.seed, step, rank))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        # DeepSpeed gathers a tied head as a weight of its own: 0.8 GB more in a checkpoint of 4B.
        tied = getattr(self.model, "all_tied_weights_keys", {})
        super()._save(output_dir, state_dict and {name: w for name, w in state_dict.items() if name not in tied})

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.loss_watch.check()
        check_weights(self.model, self.state.global_step)
        folder = Path(self.args.output_dir) / f"{checkpoints.PREFIX}{self.state.global_step}"
        if self.args.should_save and folder.exists():
            shutil.rmtree(folder)  # half written or damaged; its marker must not vouch for the files of this one
        self.accelerator.wait_for_everyone()
        with explain_failed_save(folder):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                checkpoints.write_companions(folder, self.driving_processor, self.preprocessing, self.groups, self.base)
                self.skip_book.write(folder)
                checkpoints.mark_complete(folder, self.state.global_step, self.run_plan, self.args.world_size)
                best = None if self.best is None else self.best.record()
                best_step = None if best is None else best["step"]
                checkpoints.remove_old(Path(self.args.output_dir), self.num_checkpoints_kept, best_step)
        self.accelerator.wait_for_everyone()

    def save_result(self) -> Path | None:
        """The finished weights or adapter, with everything evaluation needs, into the run's own folder.

        Returns:
            With --load_best_model_at_end the checkpoint that they are of; None where they are the last ones.
        """
        self.loss_watch.check()
        check_weights(self.model, self.state.global_step)
        folder = Path(self.args.output_dir)
        best = None
        if self.args.load_best_model_at_end:
            best = self._agree(self.best.find_folder() if self.args.process_index == 0 else None)
        with explain_failed_save(folder):
            if best is None:
                self.save_model(self.args.output_dir)
            if self.args.should_save and best is None:
                checkpoints.write_companions(folder, self.driving_processor, self.preprocessing, self.groups, self.base)
            elif self.args.should_save:
                copy_result(best, folder)
        return best


def plan_parameter_groups(model: Any, args: TrainingArguments, decayed: set[str]) -> list[dict[str, Any]]:
    """Trainable parameters by part and decay, each with its part's learning rate; empty groups are left out."""
    rates = {LANGUAGE: None, MERGER: args.mm_projector_lr, VISION: args.vision_tower_lr}
    groups: dict[tuple[str, bool], list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((part_of(name), name in decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": args.learning_rate if rates[part] is None else rates[part],
            "weight_decay": args.weight_decay if is_decayed else 0.0,
        }
        for (part, is_decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
