#!/bin/bash
# Segments a volume with a job array: no job waits for another, and the last to end writes the output.
#
#     sbatch array.sh volume.ome.zarr mask.ome.zarr [options of segment predict]
#
# The same command again goes on where jobs were stopped or killed. To send only some of them again:
#
#     NUM_SHARDS=16 sbatch --array=3,7 array.sh volume.ome.zarr mask.ome.zarr
#
#SBATCH --job-name=segment
#SBATCH --array=0-15
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=segment-%A_%a.log

set -eu
# source /path/to/venv/bin/activate

exec segment predict "$@" \
    --shard-id "$SLURM_ARRAY_TASK_ID" \
    --num-shards "${NUM_SHARDS:-$SLURM_ARRAY_TASK_COUNT}" \
    --threads "${SLURM_CPUS_PER_TASK:-1}"
