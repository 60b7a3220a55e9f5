#!/usr/bin/env bash
# One run on many machines under Slurm: train once, answer in shards, merge.
#
#   slurm-array.sh SHARDS OUT [SPEC] [options of `ragft run`]
#
# OUT lies where every node sees it; the run ends up in OUT/run. Partition, account, time and memory come from where sbatch takes them
# (SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT, ..); RAGFT names the program. Whatever was preempted or killed goes on where it was
# when the same command is given again.
set -euo pipefail

if [ "$#" -lt 2 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
ragft="${RAGFT:-ragft}"
shards="$1"
out="$2"
args=("${@:3}")
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
  export RAGFT_THREADS="$SLURM_CPUS_PER_TASK"
fi

# Begins a run in a folder, or goes on with it.
run() {
  local folder="$1" resume=()
  shift
  if [ -f "$folder/manifest.json" ]; then
    resume=(--resume)
  fi
  exec "$ragft" run "${args[@]}" -o "$folder" --quiet "$@" "${resume[@]}"
}

submit() {
  local step="$1"
  shift
  sbatch --parsable --requeue --open-mode=append --kill-on-invalid-dep=yes --job-name="ragft-$step" \
    --export="ALL,RAGFT_STEP=$step" "$@" "$0" "$shards" "$out" "${args[@]}"
}

case "${RAGFT_STEP:-submit}" in
  submit)
    mkdir -p "$out/logs"
    train="$(submit train --output="$out/logs/train-%j.log")"
    answer="$(submit answer --array="1-$shards" --dependency="afterok:$train" --output="$out/logs/answer-%A-%a.log")"
    merge="$(submit merge --dependency="afterok:$answer" --output="$out/logs/merge-%j.log")"
    echo "submitted $train (train), $answer (answer, $shards shards), $merge (merge into $out/run)"
    ;;
  train) run "$out/trained" --train-only ;;
  answer) run "$out/shard-$SLURM_ARRAY_TASK_ID" --shard "auto/$shards" --adapters-from "$out/trained" ;;
  merge)
    folders=()
    for ((shard = 1; shard <= shards; shard++)); do
      folders+=("$out/shard-$shard")
    done
    exec "$ragft" merge "${folders[@]}" -o "$out/run"
    ;;
esac
