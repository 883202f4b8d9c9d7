# scripts/launch.sh -- sourced by the train_*.sh recipes: how many processes, on which machines, and the command.
#
# Read from the environment: NPROC_PER_NODE (GPUs torch sees, 1 where none), NNODES, NODE_RANK, MASTER_ADDR,
# MASTER_PORT, CUDA_VISIBLE_DEVICES, DEEPSPEED_CONFIG ("" or none: plain data parallel), DRY_RUN=1 (print the plan and
# the command, train nothing).

# The environment beside us, as it is; only `uv sync` changes it.
launch_bin() {
  if [[ -x .venv/bin/$1 ]]; then echo ".venv/bin/$1"; else echo "$1"; fi
}

count_gpus() {
  # torch honours CUDA_VISIBLE_DEVICES; nvidia-smi ignores it. Importing torch costs seconds, so ask only where a
  # driver is loaded.
  if [[ -e /dev/nvidiactl || -e /dev/kfd || -e /dev/dxg ]]; then
    "$(launch_bin python)" -c 'import torch; print(torch.cuda.device_count())'
  else
    echo 0
  fi
}

check_count() {
  if [[ ! $2 =~ ^[1-9][0-9]*$ ]]; then
    echo "error: $1=$2 is not a whole number of at least 1" >&2
    exit 1
  fi
}

launch() {
  local num_gpus processes
  num_gpus=$(count_gpus)
  processes=${NPROC_PER_NODE:-$((num_gpus > 0 ? num_gpus : 1))}
  check_count NPROC_PER_NODE "$processes"
  check_count NNODES "${NNODES:-1}"

  # Threads that wait must sleep: on shared cores spinning ones make a step a hundred times slower.
  export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
  local flags=("$@")
  if ((num_gpus == 0)); then
    # torchrun would give each process one thread; the cores are shared out instead.
    local cores
    cores=$(nproc)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / processes > 0 ? cores / processes : 1))}
    # First, so that the user's own flags (which stand last) still win.
    flags=(--use_cpu True "${flags[@]}")
  fi
  if [[ -z ${DEEPSPEED_CONFIG+set} ]]; then
    if ((num_gpus > 0)); then
      DEEPSPEED_CONFIG=${DEFAULT_DEEPSPEED_CONFIG:-}
    elif [[ -n ${DEFAULT_DEEPSPEED_CONFIG:-} ]]; then
      echo "no GPU here: training in plain data parallel instead of $DEFAULT_DEEPSPEED_CONFIG" \
        "(DEEPSPEED_CONFIG=$DEFAULT_DEEPSPEED_CONFIG asks for it all the same)"
    fi
  fi
  if [[ -n ${DEEPSPEED_CONFIG:-} && ${DEEPSPEED_CONFIG:-} != none ]]; then
    flags=(--deepspeed "$DEEPSPEED_CONFIG" "${flags[@]}")
  fi

  local where=(--standalone)
  if ((${NNODES:-1} > 1)); then
    where=(--nnodes "$NNODES" --node_rank "${NODE_RANK:?NNODES is above 1: set NODE_RANK, 0 on the first machine}"
      --master_addr "${MASTER_ADDR:?NNODES is above 1: set MASTER_ADDR to the first machine}"
      --master_port "${MASTER_PORT:-29500}")
  fi
  local command
  # Time to finish a step and write a checkpoint after SIGTERM, where this torchrun can be told so.
  if grep -qs -e --shutdown-timeout .venv/lib/python3*/site-packages/torch/distributed/run.py; then
    where+=(--shutdown-timeout 600)
  fi
  # One process that sees several GPUs would split each batch over them; torchrun gives it one.
  if ((processes > 1 || num_gpus > 1 || ${NNODES:-1} > 1)); then
    command=("$(launch_bin torchrun)" "${where[@]}" --nproc_per_node "$processes" -m qwenvl.train.train_qwen)
  else
    command=("$(launch_bin python)" -m qwenvl.train.train_qwen)
  fi
  command+=("${flags[@]}")
  if [[ -n ${DRY_RUN:-} && ${DRY_RUN:-} != 0 ]]; then
    printf 'command:' && printf ' %q' "${command[@]}" && echo
    [[ $DRY_RUN == command ]] && return 0
    exec "$(launch_bin python)" -m qwenvl.train.train_qwen "${flags[@]}" --deepspeed "" --dry_run True \
      --dry_run_processes $((processes * ${NNODES:-1}))
  fi
  exec "${command[@]}"
}

# One optional flag: `optional --flag "$VALUE"` gives nothing where the value is empty.
optional() {
  if [[ -n $2 ]]; then OPTIONAL+=("$1" "$2"); fi
}

# What both recipes pass on only where it is set.
OPTIONAL=()
optional --max_steps "${MAX_STEPS:-}"
optional --video_frame_pixels "${VIDEO_FRAME_PIXELS:-}"
optional --video_max_pixels "${VIDEO_MAX_PIXELS:-}"
optional --video_min_pixels "${VIDEO_MIN_PIXELS:-}"
optional --max_pixels "${MAX_PIXELS:-}"
optional --min_pixels "${MIN_PIXELS:-}"
optional --run_name "${RUN_NAME:-}"
optional --save_steps "${SAVE_STEPS:-}"
optional --report_to "${REPORT_TO:-}"
