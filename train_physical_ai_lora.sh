#!/usr/bin/env bash
# LoRA fine-tuning on one-second driving clips. FINETUNE.md explains every number.
#
#   ./train_physical_ai_lora.sh
#   EPOCHS=1 BATCH_SIZE=2 ./train_physical_ai_lora.sh --report_to tensorboard
#   DRY_RUN=1 ./train_physical_ai_lora.sh
#
# Run it again after an interruption: it continues from the newest complete checkpoint in OUTPUT_DIR.
# Trailing arguments win over everything here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/launch.sh

launch \
  --model_name_or_path "${MODEL_PATH:-Qwen/Qwen3-VL-4B-Instruct}" \
  --dataset_use "${DATASET:-physical_ai_driving}" \
  --output_dir "${OUTPUT_DIR:-checkpoints/physical_ai_driving_lora}" \
  --tune_mm_vision False \
  --tune_mm_mlp True \
  --tune_mm_llm True \
  --lora_enable True \
  --lora_r "${LORA_R:-64}" \
  --lora_alpha "${LORA_ALPHA:-128}" \
  --lora_dropout "${LORA_DROPOUT:-0.05}" \
  --lora_target_modules "${LORA_TARGET_MODULES:-all}" \
  --learning_rate "${LEARNING_RATE:-2e-4}" \
  --per_device_train_batch_size "${BATCH_SIZE:-4}" \
  --gradient_accumulation_steps "${GRAD_ACCUM_STEPS:-2}" \
  --num_train_epochs "${EPOCHS:-5}" \
  --lr_scheduler_type cosine \
  --warmup_ratio 0.03 \
  --model_max_length "${MODEL_MAX_LENGTH:-4096}" \
  --precision "${PRECISION:-auto}" \
  --data_flatten "${DATA_FLATTEN:-True}" \
  --data_packing "${DATA_PACKING:-False}" \
  --gradient_checkpointing "${GRADIENT_CHECKPOINTING:-auto}" \
  --attn_implementation "${ATTN_IMPLEMENTATION:-}" \
  --video_fps "${VIDEO_FPS:-30}" \
  --video_max_frames "${VIDEO_MAX_FRAMES:-32}" \
  --video_min_frames "${VIDEO_MIN_FRAMES:-16}" \
  --save_total_limit "${SAVE_TOTAL_LIMIT:-2}" \
  --report_to "none" \
  "${OPTIONAL[@]}" \
  "$@"
