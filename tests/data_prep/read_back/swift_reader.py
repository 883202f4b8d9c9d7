"""ms-swift on an export of its form, in its own environment: EXPORT MODEL -> JSON. Not a test itself."""

import json
import os
import sys

export, model = sys.argv[1:]
os.environ.update(FPS="4", FPS_MAX_FRAMES="4", VIDEO_MIN_TOKEN_NUM="4")
os.chdir(export)  # the paths of the videos start here

from swift.dataset import load_dataset  # noqa: E402
from swift.model import get_processor  # noqa: E402
from swift.template import get_template  # noqa: E402
from telling import tell_sample  # noqa: E402

processor = get_processor(model, model_type="qwen3_vl")
template = get_template(processor)
template.video_token_id = template.tokenizer.convert_tokens_to_ids("<|video_pad|>")  # it counts on Qwen's own
template.set_mode("train")
seen = {}
for split in ("train", "val", "test"):
    rows, _ = load_dataset(f"{split}.jsonl", load_from_cache_file=False)
    seen[split] = []
    for row in rows:
        encoded = template.encode(dict(row))
        seen[split].append(tell_sample(encoded["input_ids"], encoded["labels"], encoded, template.tokenizer))
print(json.dumps(seen))
