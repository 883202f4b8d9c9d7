"""LeRobot on an export of its form, in its own environment: EXPORT -> JSON. Not a test itself."""

import json
import sys

from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata

(export,) = sys.argv[1:]
meta = LeRobotDatasetMetadata("driving", root=export)
dataset = LeRobotDataset("driving", root=export, video_backend="pyav")  # torchcodec needs an FFmpeg of the system
rows = []
for row in dataset:
    picture = row.pop("observation.images.front")
    told = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}
    rows.append({**told, "shape": list(picture.shape), "grey": float(picture.mean())})
chosen = LeRobotDataset("driving", root=export, episodes=[1, 5])
print(
    json.dumps(
        {
            "tasks": meta.tasks["task_index"].to_dict(),
            "splits": meta.info["splits"],
            "episodes": [
                {name: episode[name] for name in ("segment_uuid", "split", "group", "tasks", "length")}
                for episode in meta.episodes
            ],
            "stats": {name: {key: value.tolist() for key, value in told.items()} for name, told in meta.stats.items()},
            "rows": rows,
            "chosen": sorted({int(row["episode_index"]) for row in chosen.hf_dataset}),
        }
    )
)
