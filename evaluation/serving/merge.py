"""An adapter -> one model folder that any program loads, and the proof that both answer alike.

adapter folder, base model ──load_merged──▶ weights ──save──▶ model.safetensors, processor, preprocessing.json, ...
    adapter on its base, merged folder as read back ──compare_logits──▶ parity.json ──▶ manifest.json, last
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driving.errors import DrivingError
from driving.ledger import Output, claim_output, list_entries
from driving.option_values import parse_device
from driving.options import option, parse_options
from driving.whole_files import read_json, write_json
from evaluation.checkpoint import PREPROCESSING_NAME

PARITY_NAME, MERGE_NAME = "parity.json", "merge.json"
ADAPTER_FACTS = ("r", "lora_alpha", "use_dora", "use_rslora", "modules_to_save")


@dataclass(frozen=True)
class MergeOptions:
    """Put a LoRA adapter into its base model: one folder that vLLM, transformers and this project load as a model.

    Reads an adapter folder (LoRA, DoRA, rsLoRA or QLoRA, with the mergers that were tuned beside it) and the base
    model it was trained on; writes weights, processor, preprocessing.json and training_groups.json, and parity.json:
    how far the logits of both are apart. Running twice is safe: a finished merge is kept, a half-written one is made
    again.
    """

    model: str = option("checkpoints/physical_ai_driving_lora", help="adapter folder")
    output_dir: Path = option(Path("checkpoints/physical_ai_driving_merged"), help="folder to write")
    base_model: str = option("", help="where the adapter's base model is now; default: where it was in training")
    dtype: str = option(
        "auto", choices=("auto", "bf16", "fp16", "fp32"), help="of the weights; auto: that of the base in training"
    )
    device: str = option("auto", parse=parse_device, help="where the logits are compared: auto, cpu, cuda or cuda:N")
    force: bool = option(
        False, help="merge although the base model has changed since training, or preprocessing.json is missing"
    )
    overwrite_output: bool = option(False, help="delete what is in the output folder first")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line in, exit code out."""
    print(run(parse_options(MergeOptions, argv))["message"])
    return 0


def run(options: MergeOptions) -> dict[str, Any]:
    """Merge, compare and return parity.json's content with a one-line `message`.

    Raises:
        DrivingError: The base is another, the adapter is broken, or the merged model answers differently.
    """
    folder = Path(options.model)
    adapter = read_adapter_config(folder)
    check_preprocessing(folder, force=options.force)
    plan = plan_merge(options, folder, adapter)
    reads = [folder, *([Path(options.base_model)] if options.base_model else [])]
    with claim_output(
        options.output_dir, plan, overwrite=options.overwrite_output, reads=reads, give_up=_is_empty
    ) as output:
        if output.is_complete:
            return _summarise(output.manifest["summary"], options.output_dir, "already complete")
        facts = _write_merged(options, folder, adapter, output.folder)
        summary = facts | {"parity": _check_parity(options, folder, output)}
        output.finish(summary, holds=list_entries(output.folder))
    return _summarise(summary, options.output_dir, "merged")


def _is_empty(folder: Path) -> bool:
    return not list_entries(folder)


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json.

    Raises:
        DrivingError: The folder is none of an adapter.
    """
    path = folder / "adapter_config.json"
    if not path.exists():
        what = "is a whole model: there is nothing to merge" if (folder / "config.json").exists() else "is no adapter"
        raise DrivingError(f"{folder} {what}; name the folder that holds adapter_config.json")
    config = read_json(path, "take the checkpoint's own file")
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise DrivingError(f"{path} is of the kind {kind!r}; only LORA adapters can be merged")
    return config


def check_preprocessing(folder: Path, *, force: bool) -> None:
    """Refuse an adapter whose merged model would not know which frames it was taught with.

    Raises:
        DrivingError: There is no preprocessing.json and `force` is off.
    """
    if not (folder / PREPROCESSING_NAME).exists() and not force:
        raise DrivingError(
            f"{folder} holds no {PREPROCESSING_NAME}, so the merged model would not know which frames and question it "
            "was taught with; copy the file from the training run, or pass --force"
        )


def plan_merge(options: MergeOptions, folder: Path, adapter: dict[str, Any]) -> dict[str, Any]:
    """What the merged bytes depend on."""
    from evaluation.checkpoint import fingerprint_folder

    return {
        "tool": "merge_lora",
        "model": options.model,
        "adapter": fingerprint_folder(folder),
        "base_model": options.base_model or str(adapter.get("base_model_name_or_path")),
        "dtype": options.dtype,
        "force": options.force,
    }


def _write_merged(options: MergeOptions, folder: Path, adapter: dict[str, Any], output: Path) -> dict[str, Any]:
    from qwenvl.train.base_model import BaseModel
    from qwenvl.train.disk import explain_failed_save
    from qwenvl.train.merging import load_merged, write_companions_of
    from qwenvl.train.quiet import bars_on_terminals_only, drop_harmless_messages

    drop_harmless_messages()
    model, base = load_merged(
        folder,
        base_model=options.base_model or None,
        other_base=options.force,
        precision="" if options.dtype == "auto" else options.dtype,
    )
    with explain_failed_save(output), bars_on_terminals_only():
        write_companions_of(folder, base, output)
        model.save_pretrained(output)
    for path in output.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors leaves its temporary file's 0600
    then = BaseModel.read(folder)
    facts = {
        "adapter": str(folder),
        "base_model": base.path,
        "base": base.identity,
        "base_checked": then is not None and not options.force,
        "dequantised": base.load_in_4bit,
        "dtype": str(model.dtype).removeprefix("torch."),
        **{name: adapter.get(name) for name in ADAPTER_FACTS},
    }
    write_json(output / MERGE_NAME, facts)
    return facts


def _check_parity(options: MergeOptions, folder: Path, output: Output) -> dict[str, Any]:
    """Compare the folder as it will be read with the adapter on its base; weights that differ are removed again."""
    from evaluation.asking.engine import choose_device
    from evaluation.serving.parity import compare_logits

    parity = compare_logits(
        str(folder),
        str(output.folder),
        choose_device(options.device),
        base_model=options.base_model,
        other_base=options.force,
    )
    write_json(output.folder / PARITY_NAME, parity.to_json())
    if not parity.is_alike:
        for path in [*output.folder.glob("*.safetensors*"), output.folder / "config.json"]:
            path.unlink(missing_ok=True)
        raise DrivingError(
            f"the merged model does not answer as {folder} does on its base ({parity.describe()}); its weights were "
            f"removed, {output.folder / PARITY_NAME} holds the numbers; please report it"
        )
    return parity.to_json()


def _summarise(summary: dict[str, Any], folder: Path, head: str) -> dict[str, Any]:
    from evaluation.serving.parity import Parity

    parity = Parity(**summary["parity"])
    return {**summary, "message": f"{head}: {folder}, {summary['dtype']}; {parity.describe()}"}
