"""The line that serves a checkpoint with vLLM, worked out from what the checkpoint says of itself.

folder ──find_obstacles──▶ refused where an adapter cannot be served beside its base
       ──plan_prompt──▶ chat template with which vLLM's prompt is that of training
       ──plan_command──▶ "vllm serve ..."

Source of every flag: vLLM's documentation of `vllm serve`, of LoRA adapters and of `vllm.lora.peft_helper`, 0.22 to
0.26, read and not run: vLLM brings its own torch and is not a part of this project's environment.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driving.answer_format import AnswerFormat
from driving.errors import DrivingError
from driving.options import option, parse_options
from evaluation.asking.answer_limit import choose_answer_limit

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that --max-lora-rank takes
LENGTH_STEP_TOKENS, LENGTH_MARGIN = 256, 1.1  # clips of another shape have a few tokens more
MERGE_FIRST = "merge it first: scripts/merge_lora.py --model {folder}"


@dataclass(frozen=True)
class VllmOptions:
    """Print the line that serves a checkpoint with vLLM, as a shell script.

    Reads a model folder, merged or trained in full, or an adapter that can be served beside its base; writes
    chat_template_vllm.jinja into it where vLLM would otherwise render another prompt than training did. Running twice
    is safe: the same file is written again.
    """

    model: str = option("checkpoints/physical_ai_driving_merged", help="model folder, or adapter folder")
    base_model: str = option("", help="where an adapter's base model is now; default: where it was in training")
    served_name: str = option("driving", help="what requests call the model")


@dataclass(frozen=True)
class Serving:
    """How a checkpoint is served.

    Attributes:
        command: words of the line.
        notes: sentences about it.
        template: Jinja text that must be written to `template_path`; "" where the model's own will do.
        max_new_tokens: longest answer.
    """

    command: list[str]
    notes: list[str]
    template: str
    template_path: Path
    max_new_tokens: int

    def to_script(self) -> str:
        """Notes as comments, and the command with a flag a line."""
        lines, words = [], list(self.command)
        while words:
            line = [words.pop(0)]
            while words and not words[0].startswith("--"):
                line.append(words.pop(0))
            lines.append(shlex.join(line))
        return "".join(f"# {note}\n" for note in self.notes) + " \\\n  ".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    print(run(parse_options(VllmOptions, argv)).to_script())
    return 0


def run(options: VllmOptions) -> Serving:
    """Plan, and write the template where one is needed.

    Raises:
        DrivingError: The checkpoint cannot be served so; the message says what to do.
    """
    from driving.whole_files import write_text

    serving = plan_serving(options)
    if serving.template:
        write_text(serving.template_path, serving.template)
    return serving


def plan_serving(options: VllmOptions) -> Serving:
    """Decide the line; nothing is written."""
    from evaluation.serving.parity import build_example
    from evaluation.serving.prompt import TEMPLATE_NAME, plan_prompt

    folder = Path(options.model)
    adapter = folder / "adapter_config.json"
    head, notes = _serve_adapter(options, folder) if adapter.exists() else _serve_model(options, folder)
    processor, preprocessing = load_papers(folder)
    record, clips = build_example(preprocessing)
    prompt = plan_prompt(record, clips, processor, preprocessing)
    limit = choose_answer_limit(read_format(preprocessing), processor.tokenizer)
    if prompt.difference:
        raise DrivingError(
            f"{folder}: vLLM would not ask as training did: {prompt.difference}; use scripts/evaluate.py"
        )
    length = math.ceil(LENGTH_MARGIN * (prompt.num_tokens + limit) / LENGTH_STEP_TOKENS) * LENGTH_STEP_TOKENS
    command = [*head, "--max-model-len", str(length), "--limit-mm-per-prompt", '{"image": 0, "video": 1}']
    command += ["--media-io-kwargs", '{"video": {"num_frames": -1}}', "--generation-config", "vllm"]
    command += ["--chat-template-content-format", "openai"]
    path = folder / (TEMPLATE_NAME if not prompt.is_own else "chat_template.jinja")
    if not prompt.is_own or adapter.exists():
        command += ["--chat-template", str(path)]
    if not prompt.is_own:
        notes.append(
            f"{TEMPLATE_NAME} puts one more start and end around the clip, as the processor did in training; vLLM's "
            "own rendering lacks them"
        )
    shapes = ", ".join(
        f"{clip.frames.shape[0]} frames of {clip.frames.shape[1]}x{clip.frames.shape[2]} px" for clip in clips
    )
    notes = [
        f"trained on {shapes or 'text'}: a prompt of {prompt.num_tokens:,} tokens, answers of up to {limit}",
        *notes,
        f"requests bring the frames: scripts/ask_server.py --model {folder} --served-name {options.served_name} CLIP",
    ]
    return Serving(command, notes, "" if prompt.is_own else prompt.template, path, limit)


def load_papers(folder: Path) -> tuple[Any, Any]:
    """(processor, preprocessing) of a checkpoint that can be asked through a server.

    Raises:
        DrivingError: It does not say which frames it was taught with, or its prompt is rendered differently here.
    """
    from qwenvl.data.families import family_of
    from qwenvl.data.preprocessing import Preprocessing
    from qwenvl.data.preview import find_prompt_change
    from qwenvl.train.loading import load_processor

    if not folder.is_dir():
        raise DrivingError(f"the model folder {folder} does not exist; give a folder that training or merging wrote")
    preprocessing = Preprocessing.read(folder)
    if preprocessing is None:
        raise DrivingError(
            f"{folder} has no preprocessing.json: it does not say which frames it was taught with; take the file from "
            "the training run"
        )
    processor = load_processor(folder)
    if family_of(processor).tokens_per_second:
        raise DrivingError(
            f"{folder} is a {family_of(processor).model_type} model, whose positions hold the time between frames; "
            "how a request tells it is not known to this version; use scripts/evaluate.py"
        )
    if change := find_prompt_change(preprocessing, processor):
        raise DrivingError(change)
    return processor, preprocessing


def read_format(preprocessing: Any) -> AnswerFormat | None:
    """The answer format that a checkpoint was taught; None where it answers in words."""
    taught = preprocessing.answer_format
    return None if taught is None else AnswerFormat.from_json(taught)


def _serve_model(options: VllmOptions, folder: Path) -> tuple[list[str], list[str]]:
    """(beginning of the line, notes) of a whole model.

    Raises:
        DrivingError: The folder is none, or of a model that we do not know.
    """
    from evaluation.serving.parity import read_weights_dtype
    from qwenvl.train.loading import read_model_type

    if not (folder / "config.json").exists():
        raise DrivingError(f"{folder} holds neither config.json nor adapter_config.json; it is no model folder")
    read_model_type(folder)
    dtype = read_weights_dtype(folder)
    notes = []
    if dtype == "float32":
        dtype = "bfloat16"
        notes.append("its weights are float32; the server rounds them to bfloat16, which moves answers a little")
    return ["vllm", "serve", str(folder), "--served-model-name", options.served_name, "--dtype", dtype], notes


def _serve_adapter(options: VllmOptions, folder: Path) -> tuple[list[str], list[str]]:
    """(beginning of the line, notes) of an adapter beside its base.

    Raises:
        DrivingError: vLLM cannot serve it unmerged, with every reason.
    """
    from evaluation.serving.merge import read_adapter_config
    from qwenvl.train.inference import find_base

    config = read_adapter_config(folder)
    base = find_base(folder, options.base_model or None, False)
    obstacles = find_obstacles(config, base.load_in_4bit)
    if obstacles:
        raise DrivingError(
            f"{folder} cannot be served unmerged: {' and '.join(obstacles)}; {MERGE_FIRST.format(folder=folder)}"
        )
    rank = next(rank for rank in LORA_RANKS if rank >= config["r"])
    command = ["vllm", "serve", base.path, *(["--revision", base.commit] if base.commit else [])]
    command += ["--dtype", "float16" if base.precision == "fp16" else "bfloat16", "--enable-lora"]
    command += ["--max-lora-rank", str(rank), "--lora-modules", f"{options.served_name}={folder}"]
    if adapts_tower(folder):
        command.append("--enable-tower-connector-lora")
        return command, ["it has adapters in the vision tower, whose support in vLLM is marked experimental"]
    return command, []


def find_obstacles(adapter: dict[str, Any], is_base_quantised: bool) -> list[str]:
    """Why vLLM cannot serve an adapter beside its base; [] where it can."""
    rank = adapter.get("r")
    obstacles = {
        "its mergers were tuned, and vLLM takes no modules_to_save": bool(adapter.get("modules_to_save")),
        "it is DoRA, which vLLM does not know": bool(adapter.get("use_dora")),
        "it has biases, which vLLM does not take": adapter.get("bias", "none") != "none" or adapter.get("lora_bias"),
        f"its rank {rank} is above vLLM's {LORA_RANKS[-1]}": not isinstance(rank, int) or rank > LORA_RANKS[-1],
        "it was trained on a 4-bit base, which vLLM would quantise otherwise": is_base_quantised,
    }
    return [reason for reason, holds in obstacles.items() if holds]


def adapts_tower(folder: Path) -> bool:
    """Whether an adapter holds weights of the vision tower.

    Raises:
        DrivingError: Its weights are gone or cut short.
    """
    from safetensors import SafetensorError, safe_open

    from qwenvl.train.inference import ADAPTER_WEIGHTS

    try:
        with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
            return any(".visual." in name for name in file.keys())  # noqa: SIM118 - not a dictionary
    except (OSError, SafetensorError) as error:
        raise DrivingError(f"{folder / ADAPTER_WEIGHTS} cannot be read ({error}); copy it from the run") from error
