#!/usr/bin/env bash
# The whole product, small: synthetic driving recordings -> segments -> dataset -> a trained model -> a report.
#
#   ./quickstart.sh                               eight to ten minutes on two CPU cores, once the packages are there
#   CLIPS=60 TRAIN_SECONDS=60 ./quickstart.sh     a shorter look (the model will not have learnt to see)
#
# Needs Python with pip and nothing else: no GPU, no account, no dataset. All it makes is in quickstart/ (OUT changes
# that). Stop it at any time and run it again: it continues. It runs the programs that train a 4B model on real
# recordings; only the model is tiny: two million weights, trained from nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/setup.sh

OUT=${OUT:-quickstart}
CLIPS=${CLIPS:-400}                 # recordings of 7 s: many short ones teach more roads than few long ones
SEED=${SEED:-2026}                  # of the drawn roads; the settings below were chosen on those of seed 7
TRAIN_SECONDS=${TRAIN_SECONDS:-420} # how long the model may train; on a slow machine fewer steps follow from it
MAX_TRAIN_STEPS=${MAX_TRAIN_STEPS:-1800}
TRIAL_STEPS=20
ENOUGH_STEPS=1600 # on these roads 1,300 teach speed but not yet the side of a curve (docs/LOG.md)

# So small a model keeps one core busy; two processes that share the batch take two thirds of the time.
PROCESSES=1
if (($(nproc 2>/dev/null || echo 1) > 1)) && ! nvidia-smi -L &>/dev/null; then PROCESSES=2; fi

# What the tiny model sees: 10 frames a second of 64x128 px, 40 visual tokens; what it says: the next second in 2 pairs.
FPS=10
ANSWER_HZ=2
FRAME_PIXELS=8192

stage() { printf '\n[%3d s] %s\n' "$SECONDS" "$*"; }
run() { uv run --no-sync python "$@"; }

train() { # SCRIPT MODEL RESULT STEPS [flags]: one of the two launchers, on the quick start's data
  local script=$1 model=$2 result=$3 steps=$4
  shift 4
  MODEL_PATH=$model OUTPUT_DIR=$result MAX_STEPS=$steps DATASET=$OUT/qwen_video_dataset_training/train.json \
    NPROC_PER_NODE=$PROCESSES BATCH_SIZE=$((8 / PROCESSES)) GRAD_ACCUM_STEPS=1 EPOCHS=1000 \
    VIDEO_FPS=$FPS VIDEO_MIN_FRAMES=4 VIDEO_FRAME_PIXELS=$FRAME_PIXELS SAVE_STEPS=200 "$script" --logging_steps 10 "$@"
}

echo "setting up the environment (a minute where the packages must be fetched first)"
ensure_uv
sync_project finetune
SECONDS=0 # the ten minutes are counted from here

stage "1/6 draw $CLIPS recordings in the layout of NVIDIA PhysicalAI-AV, and audit them"
run scripts/make_synthetic_recordings.py --output-dir "$OUT/physical_ai_data" --clips "$CLIPS" --seconds 7 \
  --seed "$SEED" --height 192 --width 384 --gap-clips "$((CLIPS / 100))"
run scripts/audit_recordings.py "$OUT/physical_ai_data" --max-video-clips 3

stage "2/6 cut them into one-second segments, each with the motion of the second after it"
run prepare_video_segments.py --input_dir "$OUT/physical_ai_data" --output_dir "$OUT/qwen_video_segments" \
  --fps "$FPS" --video-frame-pixels "$FRAME_PIXELS"

stage "3/6 split by recording, write the dataset and the training JSON"
run prepare_huggingface_dataset.py --segments-path "$OUT/qwen_video_segments" --output-dir "$OUT/qwen_video_dataset" \
  --fps "$FPS" --answer-hz "$ANSWER_HZ"
run convert_to_training_format.py --dataset-dir "$OUT/qwen_video_dataset" \
  --output-dir "$OUT/qwen_video_dataset_training"

stage "4/6 train a tiny Qwen3-VL in full, from random weights (at most about $TRAIN_SECONDS s)"
[[ -e $OUT/tiny_model/config.json ]] || run scripts/make_tiny_model.py "$OUT/tiny_model"
FULL=$OUT/checkpoints/physical_ai_driving
from_scratch=(--tune_mm_vision True --learning_rate 1e-3 --warmup_steps 30 --adam_beta2 0.95 --weight_decay 0.05)
if [[ ! -e $OUT/train_steps ]]; then
  # A few steps first: they tell how many the time allows on this machine. The run then goes on from them.
  train ./train_physical_ai.sh "$OUT/tiny_model" "$FULL" "$TRIAL_STEPS" "${from_scratch[@]}" --logging_steps 1
  run - "$FULL/training_log.jsonl" "$TRAIN_SECONDS" "$TRIAL_STEPS" "$MAX_TRAIN_STEPS" >"$OUT/.train_steps" <<'PLAN'
import json, sys

log, seconds, trial, most = sys.argv[1], *map(float, sys.argv[2:])
elapsed = [json.loads(line)["elapsed_s"] for line in open(log, encoding="utf-8")]
step_s = (elapsed[-1] - elapsed[len(elapsed) // 2]) / (len(elapsed) - 1 - len(elapsed) // 2)
print(int(max(trial + 10, min(most, seconds / step_s))))
PLAN
  mv "$OUT/.train_steps" "$OUT/train_steps"
fi
steps=$(<"$OUT/train_steps")
if ((steps < ENOUGH_STEPS)); then
  echo "this machine does about $steps steps in $TRAIN_SECONDS s; it takes about $ENOUGH_STEPS to learn to see bends:" \
    "expect less in the report, or run it with TRAIN_SECONDS=$((TRAIN_SECONDS * 2)) and a fresh OUT"
fi
train ./train_physical_ai.sh "$OUT/tiny_model" "$FULL" "$steps" "${from_scratch[@]}"

stage "5/6 a few steps of LoRA on top of it, through the launcher"
LORA=$OUT/checkpoints/physical_ai_driving_lora
train ./train_physical_ai_lora.sh "$FULL" "$LORA" 20 --learning_rate 1e-4 --lora_r 8 --lora_alpha 16

stage "6/6 ask the model about recordings it has never seen, and check that it looks at them"
run scripts/evaluate.py --model "$LORA" --test-data "$OUT/qwen_video_dataset_training/test.json" \
  --output-dir "$OUT/evaluation_results" --batch-size 64 --frame-baseline

stage "done. Open $OUT/evaluation_results/report.html"
echo "on a video of your own: uv run python scripts/predict.py my_dashcam.mp4 --model $LORA --out overlay.mp4"
