# scripts/launch.sh -- sourced by the train_*.sh recipes: how many processes, on which machines, and the command.
#
# Read from the environment: NPROC_PER_NODE (GPUs torch sees, 1 where none), NNODES, NODE_RANK, MASTER_ADDR,
# MASTER_PORT, CUDA_VISIBLE_DEVICES, DEEPSPEED_CONFIG ("" or none: plain data parallel), DRY_RUN=1 (print the plan and
# the command, train nothing).

# The environment beside us, as it is; only `uv sync` changes it.
launch_bin() {
  if [[ -x .venv/bin/$1 ]]; then echo ".venv/bin/$1"; else echo "$1"; fi
}

has_driver() { [[ -e /dev/nvidiactl || -e /dev/kfd || -e /dev/dxg ]]; }

count_gpus() {
  # torch honours CUDA_VISIBLE_DEVICES; nvidia-smi ignores it. Importing torch costs seconds, so ask only where a
  # driver is loaded.
  if has_driver; then
    "$(launch_bin python)" -c 'import torch; print(torch.cuda.device_count())'
  else
    echo 0
  fi
}

refuse() {
  echo "error: $*" >&2
  exit 1
}

check_count() {
  if [[ ! $2 =~ ^[1-9][0-9]*$ ]]; then refuse "$1=$2 is not a whole number of at least 1"; fi
}

# check_gpus NUMBER PROCESSES: what torch sees is what was meant, and is enough.
check_gpus() {
  if (($1 > 0 && $2 > $1)); then
    refuse "NPROC_PER_NODE=$2, but torch sees $1 GPU(s) here; NPROC_PER_NODE=$1 uses all of them" \
      "(CUDA_VISIBLE_DEVICES= trains on the CPU)"
  fi
  if (($1 == 0)) && has_driver && [[ ${CUDA_VISIBLE_DEVICES:--1} != -1 ]]; then
    refuse "CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES, but torch sees no GPU with it; name GPUs that nvidia-smi lists" \
      "(CUDA_VISIBLE_DEVICES= trains on the CPU)"
  fi
}

# check_machines: the place of this machine among NNODES, and where they meet.
check_machines() {
  if [[ -z ${NODE_RANK:-} ]]; then
    refuse "NNODES=$NNODES needs NODE_RANK: 0 on the first machine, 1 on the second, ..."
  fi
  if [[ ! $NODE_RANK =~ ^[0-9]+$ ]] || ((10#$NODE_RANK >= NNODES)); then
    refuse "NODE_RANK=$NODE_RANK is none of 0 to $((NNODES - 1)), the machines of NNODES=$NNODES"
  fi
  if [[ -z ${MASTER_ADDR:-} ]]; then
    refuse "NNODES=$NNODES needs MASTER_ADDR: name or address of the first machine, the same everywhere"
  fi
  if [[ ! ${MASTER_PORT:-29500} =~ ^[0-9]{1,5}$ ]] || ((10#${MASTER_PORT:-29500} > 65535)); then
    refuse "MASTER_PORT=$MASTER_PORT is no port; take one from 1024 to 65535, the same everywhere"
  fi
}

# The value of the last --deepspeed among the flags: a plan needs it, and an engine must not start for it.
dry_run_config() {
  local value=
  while (($#)); do
    if [[ $1 == --deepspeed ]]; then value=${2:-}; fi
    if [[ $1 == --deepspeed=* ]]; then value=${1#*=}; fi
    shift
  done
  echo "$value"
}

launch() {
  local num_gpus processes
  num_gpus=$(count_gpus)
  processes=${NPROC_PER_NODE:-$((num_gpus > 0 ? num_gpus : 1))}
  check_count NPROC_PER_NODE "$processes"
  check_count NNODES "${NNODES:-1}"
  check_gpus "$num_gpus" "$processes"

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
    check_machines
    where=(--nnodes "$NNODES" --node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR"
      --master_port "${MASTER_PORT:-29500}")
  fi
  local command
  # One process that sees several GPUs would split each batch over them; torchrun gives it one. DeepSpeed takes no
  # process that has no rank.
  if ((processes > 1 || num_gpus > 1 || ${NNODES:-1} > 1)) || [[ ${flags[0]} == --deepspeed ]]; then
    command=("$(launch_bin python)" -m qwenvl.train.torchrun "${where[@]}" --nproc_per_node "$processes"
      -m qwenvl.train.train_qwen)
  else
    command=("$(launch_bin python)" -m qwenvl.train.train_qwen)
  fi
  command+=("${flags[@]}")
  if [[ -n ${DRY_RUN:-} && ${DRY_RUN:-} != 0 ]]; then
    printf 'command:' && printf ' %q' "${command[@]}" && echo
    [[ $DRY_RUN == command ]] && return 0
    exec "$(launch_bin python)" -m qwenvl.train.train_qwen "${flags[@]}" --deepspeed "" --dry_run True \
      --dry_run_processes $((processes * ${NNODES:-1})) --dry_run_deepspeed "$(dry_run_config "${flags[@]}")"
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
optional --streaming "${STREAMING:-}"
optional --run_name "${RUN_NAME:-}"
optional --save_steps "${SAVE_STEPS:-}"
optional --report_to "${REPORT_TO:-}"
if [[ -n ${EVAL_STEPS:-} ]]; then OPTIONAL+=(--eval_strategy steps --eval_steps "$EVAL_STEPS"); fi
