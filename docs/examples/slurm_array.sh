#!/bin/bash
# One shard a task:            sbatch docs/examples/slurm_array.sh
# The result when all ended:   see docs/cluster.md
#SBATCH --job-name=edgecloud
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=reports/logs/%x-%A-%a.out
set -euo pipefail

shard="${SLURM_ARRAY_TASK_ID:-1}/${SLURM_ARRAY_TASK_COUNT:-1}"

# --resume: a task that was preempted and queued again goes on where its journal ends.
exec python -m pytest bench/test_spec.py \
    --clock modelled --language chinese --acceptance exact \
    --output-name spec-exact --output-dir "${OUTPUT_DIR:-reports}" \
    --shard "$shard" --resume "$@"
