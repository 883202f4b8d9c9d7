"""LLaMA-Factory on an export of its form, in its own environment: EXPORT MODEL -> JSON. Not a test itself."""

import json
import sys
import tempfile

import torch

torch.version.cuda = None  # its torchaudio refuses a torch of another CUDA version, on a CPU too

from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset, get_template_and_fix_tokenizer  # noqa: E402, I001
from llamafactory.hparams import get_train_args  # noqa: E402
from llamafactory.model import load_tokenizer  # noqa: E402
from telling import tell_sample  # noqa: E402

export, model = sys.argv[1:]
seen = {}
for split in ("train", "val", "test"):
    model_args, data_args, training_args, *_ = get_train_args(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": model,
            "finetuning_type": "full",
            "output_dir": tempfile.mkdtemp(),
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            "dataset_dir": export,
            "media_dir": export,
            "dataset": f"driving_{split}",
            "template": "qwen3_vl_nothink",
            "cutoff_len": 4096,
            "video_fps": 4,
            "video_maxlen": 4,
            "overwrite_cache": True,
        }
    )
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    rows = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)["train_dataset"]
    collate = SFTDataCollatorWith4DAttentionMask(template=template, **module)
    seen[split] = []
    for row in rows:
        batch = collate([dict(row)])
        seen[split].append(
            tell_sample(batch["input_ids"][0].tolist(), batch["labels"][0].tolist(), batch, module["tokenizer"])
        )
print(json.dumps(seen))
