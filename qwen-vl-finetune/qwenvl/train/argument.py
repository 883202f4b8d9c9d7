"""Every flag of a training run: upstream's names, transformers' own, and ours.

    argv ──translate_argv──▶ argv that this transformers knows ──parse_plan──▶ TrainPlan(model, data, run, notes)

What transformers 5 dropped and people still type is translated, and said. What cannot be had together is refused by
name: a flag that is silently ignored is worse than one that is missing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import transformers

from driving.errors import DrivingError
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.train.engines import check_deepspeed_config, check_engine
from qwenvl.train.foreign_flags import check_evaluation, check_foreign, check_streaming, check_without_effect
from qwenvl.train.limits import check_limits
from qwenvl.train.quantised import check_bitsandbytes
from qwenvl.train.translate import PIXEL_FLAGS, check_flags, resolve_machine, split_flags, translate_argv

# transformers 5.2x renames it; the old name warns.
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


@dataclass
class ModelArguments:
    """Which model, and which of its parts learn."""

    model_name_or_path: str = field(default="", metadata={"help": "model folder or hub name"})
    tune_mm_llm: bool = field(default=True, metadata={"help": "train the language model (its adapters with LoRA)"})
    tune_mm_mlp: bool = field(default=True, metadata={"help": "train the merger and the DeepStack mergers, in full"})
    tune_mm_vision: bool = field(default=False, metadata={"help": "train the vision tower (its adapters with LoRA)"})
    lora_enable: bool = field(default=False, metadata={"help": "train adapters instead of the weights themselves"})
    lora_r: int = field(default=64, metadata={"help": "rank of the adapters"})
    lora_alpha: float = field(default=128, metadata={"help": "scale of the adapters, divided by the rank"})
    lora_dropout: float = field(default=0.05, metadata={"help": "dropout before the adapters; 0 means none"})
    lora_target_modules: str = field(
        default="all", metadata={"help": "'all' linear layers of the tuned parts, 'attention' (q, k, v, o), or names"}
    )
    use_dora: bool = field(default=False, metadata={"help": "weight-decomposed adapters"})
    use_rslora: bool = field(default=False, metadata={"help": "scale adapters by the root of the rank"})
    load_in_4bit: bool = field(default=False, metadata={"help": "QLoRA: the frozen language model in 4 bits (NF4)"})
    attn_implementation: str = field(
        default="", metadata={"help": "auto, flash_attention_2, sdpa or eager; empty: what train() is called with"}
    )
    precision: str = field(
        default="auto",
        metadata={"help": "auto (bf16 where the GPU has it, fp16 on older cards, fp32 on CPU), bf16, fp16 or fp32"},
    )


@dataclass
class DataArguments:
    """Which rows, and how their videos become pixels."""

    dataset_use: str = field(default="physical_ai_driving", metadata={"help": "names or paths, commas, each with %%N"})
    eval_dataset_use: str = field(
        default="",
        metadata={"help": "rows to evaluate on while training; default: the val.json beside each training JSON"},
    )
    data_flatten: bool = field(
        default=False, metadata={"help": "put the samples of a batch into one row, without padding"}
    )
    data_packing: bool = field(
        default=False,
        metadata={"help": "fill rows of model_max_length tokens with samples; the batch size then counts such rows"},
    )
    max_pixels: int | None = field(default=None, metadata={"help": "area of a still image at most [px]"})
    min_pixels: int | None = field(default=None, metadata={"help": "area of a still image at least [px]"})
    video_frame_pixels: int | None = field(
        default=None, metadata={"help": "area of one video frame [px]; default 114688, unless video_max_pixels rules"}
    )
    video_max_pixels: int | None = field(default=None, metadata={"help": "pixels of all frames of a clip together"})
    video_min_pixels: int | None = field(default=None, metadata={"help": "the same from below"})
    video_max_frames: int = field(default=32, metadata={"help": "frames of a clip at most"})
    video_min_frames: int = field(default=16, metadata={"help": "frames of a clip at least, where it holds them"})
    video_fps: float = field(default=30.0, metadata={"help": "frames per second taken from a clip [1/s]"})
    max_bad_fraction: float = field(
        default=0.02, metadata={"help": "share of unusable samples (and more than 3) that stops the run"}
    )
    decode_limit_s: float = field(
        default=30.0,
        metadata={"help": "a clip that takes longer to decode is tried twice more, then stops the run [s]; 0: never"},
    )
    cache_frames: str = field(
        default="auto", metadata={"help": "keep decoded frames in memory: auto (where all fit into 2 GB), True, False"}
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "read rows from shards (tar) or a training JSON as they are needed; none are held in memory"},
    )
    mirror: str = field(
        default="False",
        metadata={
            "help": "show training rows left-right mirrored, in text too: True (every second), False, or a share"
        },
    )
    blind: bool = field(
        default=False,
        metadata={"help": "show grey frames of the same size, in prediction too: what the text alone teaches"},
    )
    prepared_dir: str = field(
        default="",
        metadata={"help": "read tokens and frames that prepare_cache.py wrote there, decode nothing"},
    )

    @property
    def mirror_share(self) -> float:
        """The probability that a training row is mirrored in an epoch.

        Raises:
            DrivingError: `--mirror` says none.
        """
        named = {"true": 0.5, "false": 0.0}
        try:
            share = named[self.mirror.lower()] if self.mirror.lower() in named else float(self.mirror)
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise DrivingError(f"--mirror {self.mirror!r} is none of True, False and a share from 0 to 1")
        return share

    @property
    def is_flat(self) -> bool:
        """Whether the samples of a batch share one row."""
        return self.data_flatten or self.data_packing

    def build_preprocessing(self, **found: object) -> Preprocessing:
        """The sampling and pixel rules of this run; `found` fills in what the data and the processor say."""
        names = ("video_fps", "video_min_frames", "video_max_frames", "blind", *PIXEL_FLAGS)
        return Preprocessing(**{name: getattr(self, name) for name in names}, **found)


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    """transformers' own, with upstream's additions and defaults that suit one-second clips."""

    output_dir: str = field(default="checkpoints/run", metadata={"help": "where checkpoints and the result go"})
    cache_dir: str | None = field(default=None, metadata={"help": "where models from the hub are kept"})
    model_max_length: int = field(default=4096, metadata={"help": "tokens of a sample at most; longer are skipped"})
    mm_projector_lr: float | None = field(default=None, metadata={"help": "learning rate of the mergers"})
    vision_tower_lr: float | None = field(default=None, metadata={"help": "learning rate of the vision tower"})
    overwrite_output: bool = field(default=False, metadata={"help": "delete what is in output_dir and start afresh"})
    elastic: bool = field(
        default=False, metadata={"help": "go on with another number of processes: same rows a step, not the same bits"}
    )
    dry_run: bool = field(default=False, metadata={"help": "print the plan and stop before the first step"})
    dry_run_processes: int = field(default=0, metadata={"help": "processes to plan for with --dry_run; 0: as started"})
    dry_run_deepspeed: str = field(default="", metadata={"help": "DeepSpeed config to plan for with --dry_run"})
    group_by_length: bool = field(default=False, metadata={"help": "put samples of similar length into one batch"})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "learning rate schedule"})
    warmup_steps: float = field(default=0.03, metadata={"help": "steps, or below 1 the share of all steps"})
    weight_decay: float = field(default=0.0, metadata={"help": "decay of weight matrices"})
    logging_steps: float = field(default=1, metadata={"help": "a log line every so many steps"})
    save_steps: float = field(default=200, metadata={"help": "a checkpoint every so many steps"})
    save_total_limit: int | None = field(default=2, metadata={"help": "complete checkpoints to keep"})
    dataloader_num_workers: int = field(default=2, metadata={"help": "processes that decode; 0: none beside"})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "hide losses that are not finite"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "must stay False"})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "search for parameters without a gradient; dummies leave none"}
    )
    eval_samples: int = field(
        default=64, metadata={"help": "rows that are answered at each evaluation, spread over the recordings; 0: none"}
    )
    metric_for_best_model: str | None = field(
        default=None, metadata={"help": "what the best checkpoint is chosen by; default eval_loss"}
    )
    seed: int = field(default=42, metadata={"help": "decides rows, order, adapters and dropout"})

    def __post_init__(self) -> None:
        takes_best = self.load_best_model_at_end
        # transformers would ask for saving and evaluating at the same steps; here a new best is saved at once.
        self.load_best_model_at_end = False
        self.eval_steps = self.eval_steps or self.save_steps
        metric = self.metric_for_best_model or "eval_loss"
        self.metric_for_best_model = metric if metric.startswith("eval_") else f"eval_{metric}"
        super().__post_init__()
        self.load_best_model_at_end = takes_best

    @property
    def is_evaluated(self) -> bool:
        """Whether held-out rows are looked at while training."""
        return str(self.eval_strategy.value) != "no"


@dataclass(frozen=True)
class TrainPlan:
    """One resolved run. `notes` say what was translated or chosen for this machine; `argv` is what was typed."""

    model: ModelArguments
    data: DataArguments
    run: TrainingArguments
    notes: tuple[str, ...]
    argv: tuple[str, ...] = ()

    @property
    def num_processes(self) -> int:
        """Processes that train together, on all machines; a dry run is one process that plans for them."""
        return (self.run.dry_run and self.run.dry_run_processes) or self.run.world_size


def parse_plan(argv: Sequence[str], attn_implementation: str = "auto") -> TrainPlan:
    """Read the command line; refuse what is unknown, contradictory.

    Raises:
        DrivingError: With the flag, its value and what to write instead.
    """
    typed_argv = tuple(argv)
    argv, notes = translate_argv(list(argv))
    parser = transformers.HfArgumentParser((ModelArguments, DataArguments, TrainingArguments), allow_abbrev=False)
    check_flags(argv, {name for action in parser._actions for name in action.option_strings})
    check_deepspeed_config(argv)
    argv, machine_notes = resolve_machine(argv, checkpointing_field())
    # Only the one line that argparse ends with: the usage of 200 flags hides it.
    parser.usage = "train_qwen.py --flag value ... (--help lists every flag)"
    try:
        model, data, run = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    except (ValueError, ImportError) as error:  # transformers' own checks; its first line says it
        raise DrivingError(f"{str(error).strip().splitlines()[0]} -- in the flags given; --help lists them") from error
    notes += machine_notes
    model.attn_implementation = model.attn_implementation or attn_implementation
    check_arguments(model, data, run)
    check_without_effect(model, data, run)
    check_streaming(data, run)
    check_limits(run, trains_vision=model.tune_mm_vision)
    check_engine(run)
    typed = {name for name, _ in split_flags(argv)}
    check_foreign(run, typed)
    check_evaluation(run, data, typed)
    return TrainPlan(model, data, run, tuple(notes), typed_argv)


def checkpointing_field() -> str:
    """How this transformers spells "compute activations again in the backward pass"."""
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    return next(name for name in CHECKPOINTING if name in names)


def check_quantised_run(model: ModelArguments) -> None:
    """Raise where --load_in_4bit cannot be had: without LoRA, or without its library."""
    if not model.load_in_4bit:
        return
    if not model.lora_enable:
        raise DrivingError(
            "--load_in_4bit True: 4-bit weights cannot be trained themselves; set --lora_enable True, or leave it out"
        )
    check_bitsandbytes()


def check_arguments(model: ModelArguments, data: DataArguments, run: TrainingArguments) -> None:
    """Raise for values that contradict each other."""
    if not model.model_name_or_path:
        raise DrivingError("--model_name_or_path is missing; give a model folder or a hub name")
    if not (model.tune_mm_llm or model.tune_mm_mlp or model.tune_mm_vision):
        raise DrivingError("nothing is trained: set one of --tune_mm_llm, --tune_mm_mlp, --tune_mm_vision True")
    if model.lora_enable and not (model.tune_mm_llm or model.tune_mm_vision):
        raise DrivingError("LoRA has nothing to adapt with --tune_mm_llm False; set it True or --lora_enable False")
    check_quantised_run(model)
    if model.lora_r < 1 or not 0 <= model.lora_dropout < 1 or model.lora_alpha <= 0:
        raise DrivingError(
            f"--lora_r {model.lora_r}, --lora_alpha {model.lora_alpha} and --lora_dropout {model.lora_dropout}: "
            "the rank and the scale must be above 0, the dropout from 0 to below 1"
        )
    if run.n_gpu > 1 and not run.dry_run:
        raise DrivingError(
            f"one process sees {run.n_gpu} GPUs and would split each batch over them; start it with a launcher or "
            f"torchrun --nproc_per_node {run.n_gpu}, or show it one: CUDA_VISIBLE_DEVICES=0"
        )
    if data.cache_frames.lower() not in ("auto", "true", "false"):
        raise DrivingError(f"--cache_frames {data.cache_frames!r} is none of auto, True, False")
    if data.mirror_share and data.data_packing:
        raise DrivingError(
            f"--mirror {data.mirror} with --data_packing True: a mirrored answer has other minus signs, so other "
            "tokens than its place was planned for; use --data_flatten True"
        )
    if data.blind and data.prepared_dir:
        raise DrivingError(
            f"--blind True with --prepared_dir {data.prepared_dir}: a prepared cache holds what the cameras saw; leave "
            "it out, grey frames cost nothing to decode"
        )
    if not 0 <= data.decode_limit_s < math.inf:
        raise DrivingError(f"--decode_limit_s {data.decode_limit_s:g} must be a number of seconds, or 0 for no limit")
    if not 0 <= data.max_bad_fraction <= 1:
        raise DrivingError(f"--max_bad_fraction {data.max_bad_fraction} is not a share from 0 to 1")
    if run.train_sampling_strategy != "random":
        raise DrivingError(
            f"--train_sampling_strategy {run.train_sampling_strategy} is not in this version; --group_by_length True is"
        )
