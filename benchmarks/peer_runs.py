"""One training run of another framework, inside its own environment: seconds of each step, peak memory, losses.

    python -m benchmarks.peer_runs --peer trl --folder F --num-steps 4      (benchmarks.peers and .gpu call this)

Nothing of ours is imported but the plain reference's data (for TRL, whose own collator drops videos) and the clock.
Each framework gets what benchmarks/ways.py gives to ours and to the plain way: LoRA on the language model's q, k, v
and o without dropout, a constant rate, SDPA, fp32, no recomputation, all frames at the size they have. On a GPU
(--device cuda) it is bf16 and what benchmarks.gpu gives.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import EndsClock, StepClock, describe_versions, read_rss_bytes
from benchmarks.ways import SEED, TARGETS, Setup, language_pattern

FPS, MAX_TOKENS, FRAME_PIXELS = 30, 4096, 131_072  # of one frame at most: 256x448 stays as it is


def main(argv: Sequence[str] | None = None) -> int:
    """Run one framework and print its numbers as the last line."""
    parser = argparse.ArgumentParser(prog="benchmarks.peer_runs", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="holds model/ and train.json")
    parser.add_argument("--num-steps", type=int, default=4, help="the dropped ones too")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--lora-r", type=int, default=16)
    parser.add_argument("--lora-alpha", type=int, default=32)
    parser.add_argument("--targets", choices=TARGETS, default="attention")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = vars(parser.parse_args(argv))
    peer, folder = args.pop("peer"), args.pop("folder")
    print(json.dumps(run_peer(peer, folder, Setup(**args))))
    return 0


def run_peer(peer: str, folder: Path, setup: Setup) -> dict[str, Any]:
    """One framework in this process; the first step is dropped, on a GPU the first three."""
    import torch

    is_gpu = setup.device != "cpu"
    clock = EndsClock(setup.num_steps, torch.cuda.synchronize) if is_gpu else StepClock()
    seen = watch_every_trainer(clock)
    output_dir = folder / peer
    output_dir.mkdir(exist_ok=True)
    PEERS[peer](folder, output_dir, common_arguments(output_dir, setup), setup)
    steps = {
        "step_s": [round(seconds, 4) for seconds in clock.step_s[1:]],
        "cpu_s": [round(seconds, 4) for seconds in clock.cpu_s[1:]],
        "peak_bytes": read_rss_bytes(peak=True),
    }
    return {
        **(clock.to_json() if isinstance(clock, EndsClock) else steps),
        **seen,
        "versions": describe_versions(
            ("torch", "transformers", "peft", "accelerate", "trl", "ms-swift", "llamafactory", "qwen-vl-utils", "av")
        ),
    }


def watch_every_trainer(clock: StepClock) -> dict[str, Any]:
    """Time every step of whichever Trainer is made, and note its losses and the shape of its first batch."""
    import transformers
    from transformers.trainer_callback import CallbackHandler

    seen: dict[str, Any] = {"losses": [], "baseline_bytes": 0}

    class Watch(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            seen["trainable"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
            handle = model.register_forward_pre_hook(lambda *call: note(handle, call[-1]), with_kwargs=True)

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.start()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.stop()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                seen["losses"].append(float(logs["loss"]))

    def note(handle: Any, inputs: dict[str, Any]) -> None:
        handle.remove()
        for name in ("input_ids", "inputs_embeds", "pixel_values_videos"):
            if inputs.get(name) is not None:
                seen[f"{name}_shape"] = list(inputs[name].shape)
        if inputs.get("labels") is not None:
            seen["supervised_tokens"] = int((inputs["labels"] != -100).sum())

    make = CallbackHandler.__init__

    def make_watched(self: Any, callbacks: Any, *args: Any, **kwargs: Any) -> None:
        make(self, [*callbacks, Watch()], *args, **kwargs)

    CallbackHandler.__init__ = make_watched
    return seen


def common_arguments(output_dir: Path, setup: Setup) -> dict[str, Any]:
    """What every framework hands on to transformers' TrainingArguments."""
    return {
        "output_dir": str(output_dir / "run"),
        "per_device_train_batch_size": setup.batch_size,
        "gradient_accumulation_steps": 1,
        "max_steps": setup.num_steps,
        "learning_rate": setup.learning_rate,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "gradient_checkpointing": False,
        "use_cpu": setup.device == "cpu",
        "bf16": setup.device != "cpu",
        "dataloader_num_workers": setup.workers,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": SEED,
    }


def run_trl(folder: Path, output_dir: Path, arguments: dict[str, Any], setup: Setup) -> None:
    """TRL's SFTTrainer; its collator knows images only, so the plain reference's makes the batches."""
    import functools

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import SFTConfig, SFTTrainer

    from benchmarks import reference

    processor = AutoProcessor.from_pretrained(folder / "model")
    samples = reference.PlainDataset(folder / "train.json", processor)
    pad = functools.partial(reference.collate, pad_token_id=processor.tokenizer.pad_token_id)
    model = AutoModelForImageTextToText.from_pretrained(
        folder / "model",
        dtype=torch.float32 if setup.device == "cpu" else torch.bfloat16,
        attn_implementation="sdpa",
    )
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **arguments, remove_unused_columns=False, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}
        ),
        train_dataset=Dataset.from_dict({"index": list(range(len(samples)))}),
        data_collator=lambda rows: pad([samples[row["index"]] for row in rows]),
        processing_class=processor,
        peft_config=LoraConfig(
            r=setup.lora_r,
            lora_alpha=setup.lora_alpha,
            lora_dropout=0.0,
            target_modules=language_pattern(setup.targets),
        ),
    )
    trainer.train()


def run_swift(folder: Path, output_dir: Path, arguments: dict[str, Any], setup: Setup) -> None:
    """ms-swift's sft_main on its own messages format."""
    os.environ.update(FPS=str(FPS), VIDEO_MIN_TOKEN_NUM="4")  # else small frames are enlarged to 128 tokens
    from swift import SftArguments, sft_main

    rows = []
    for row in read_rows(folder):
        roles = {"human": "user", "gpt": "assistant"}
        messages = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
        rows.append({"messages": messages, "videos": [str(folder / row["video"])]})
    path = output_dir / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sft_main(
        SftArguments(
            **arguments,
            model=str(folder / "model"),
            model_type="qwen3_vl",
            dataset=[str(path)],
            tuner_type="lora",
            torch_dtype="float32" if setup.device == "cpu" else "bfloat16",
            attn_impl="sdpa",
            lora_rank=setup.lora_r,
            lora_alpha=setup.lora_alpha,
            lora_dropout=0.0,
            target_modules=list(TARGETS[setup.targets]),
            max_length=MAX_TOKENS,
            split_dataset_ratio=0.0,
            dataset_num_proc=1,
        )
    )


def run_llamafactory(folder: Path, output_dir: Path, arguments: dict[str, Any], setup: Setup) -> None:
    """LLaMA-Factory's run_exp on its sharegpt format."""
    import shutil

    import torch

    if setup.device == "cpu":
        torch.version.cuda = None  # its torchaudio refuses a torch of another CUDA version, on a CPU too
    from llamafactory.train.tuner import run_exp

    rows = [{**row, "videos": [str(folder / row["video"])]} for row in read_rows(folder)]
    (output_dir / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    columns = {"messages": "conversations", "videos": "videos"}
    info = {"rows": {"file_name": "rows.json", "formatting": "sharegpt", "columns": columns}}
    (output_dir / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    shutil.rmtree(arguments["output_dir"], ignore_errors=True)
    run_exp(
        {
            **arguments,
            "model_name_or_path": str(folder / "model"),
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": setup.lora_r,
            "lora_alpha": setup.lora_alpha,
            "lora_dropout": 0.0,
            "lora_target": ",".join(TARGETS[setup.targets]),
            "flash_attn": "sdpa",
            "disable_gradient_checkpointing": True,
            "dataset_dir": str(output_dir),
            "dataset": "rows",
            "template": "qwen3_vl_nothink",
            "cutoff_len": MAX_TOKENS,
            "video_fps": FPS,
            "video_max_pixels": FRAME_PIXELS,
            "preprocessing_num_workers": 1,
            "overwrite_cache": True,
        }
    )


def run_upstream(folder: Path, output_dir: Path, arguments: dict[str, Any], setup: Setup) -> None:
    """Qwen's own scripts, from the checkout that UPSTREAM_DIR names."""
    from benchmarks import peer_upstream

    own = {
        "lora_r": setup.lora_r,
        "lora_alpha": setup.lora_alpha,
        "fps": FPS,
        "max_tokens": MAX_TOKENS,
        "max_pixels": FPS * FRAME_PIXELS,
    }
    peer_upstream.run_upstream(folder, output_dir, arguments, own)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "train.json").read_text(encoding="utf-8"))


PEERS: dict[str, Callable[[Path, Path, dict[str, Any], Setup], None]] = {
    "trl": run_trl,
    "swift": run_swift,
    "llamafactory": run_llamafactory,
    "upstream": run_upstream,
}


if __name__ == "__main__":
    sys.exit(main())
