"""The plain way to fine-tune Qwen3-VL, as a good user of transformers and peft writes it: what ours is compared with.

The processor on the decoded video in a DataLoader, a padded batch, the model's own forward with labels (full logits,
Conv3d), LoRA, AdamW. Nothing here is slow on purpose: a slower reference would be a defect of the benchmark.
"""

import functools
import itertools
import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForImageTextToText
from transformers.video_utils import load_video

ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


class PlainDataset(Dataset):
    def __init__(self, path, processor):
        self.rows = json.loads(Path(path).read_text(encoding="utf-8"))
        self.folder, self.processor = Path(path).parent, processor

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row, messages = self.rows[index], []
        for turn in row["conversations"]:
            text = turn["value"].removeprefix("<video>\n")
            video = [{"type": "video"}] if text != turn["value"] else []
            messages.append({"role": ROLES[turn["from"]], "content": [*video, {"type": "text", "text": text}]})
        frames, metadata = load_video(str(self.folder / row["video"]), backend="pyav")
        rendered = self.processor.apply_chat_template(messages, tokenize=False)
        kwargs = {"video_metadata": [metadata], "do_sample_frames": False, "return_tensors": "pt"}
        sample = self.processor(text=[rendered], videos=[frames], **kwargs)
        # The text ends in the answer, <|im_end|> and a newline; the answer and its end token are supervised.
        num_answer = len(self.processor.tokenizer.encode(text, add_special_tokens=False))
        sample["labels"] = torch.full_like(sample["input_ids"], -100)
        sample["labels"][:, -num_answer - 2 : -1] = sample["input_ids"][:, -num_answer - 2 : -1]
        return dict(sample)


def collate(samples, pad_token_id):
    batch = {key: torch.cat([sample[key] for sample in samples]) for key in ("pixel_values_videos", "video_grid_thw")}
    padding = {"input_ids": pad_token_id, "attention_mask": 0, "labels": -100, "mm_token_type_ids": 0}
    for key, value in padding.items():
        rows = [sample[key][0] for sample in samples]
        batch[key] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
    return batch


def build_loader(path, processor, batch_size, workers):
    pad = functools.partial(collate, pad_token_id=processor.tokenizer.pad_token_id)
    options = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": torch.cuda.is_available()}
    return DataLoader(PlainDataset(path, processor), batch_size, shuffle=True, collate_fn=pad, **options)


def build_model(folder, lora, device="cpu", dtype=torch.float32):
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").to(device)
    return get_peft_model(model, LoraConfig(**lora)).train()


def train(model, loader, num_steps, clock, learning_rate=1e-4):
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=0.0, fused=True)
    for batch in itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), num_steps):
        clock.start()
        batch = {key: value.to(model.device, non_blocking=True) for key, value in batch.items()}
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.dtype == torch.bfloat16):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.stop(loss.detach())
