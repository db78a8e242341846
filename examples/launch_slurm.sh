#!/bin/sh
#SBATCH --array=0-7
#SBATCH --cpus-per-task=2
#SBATCH --requeue
# Each task of the job array trains its part of the networks, without locks. A task that is stopped
# and requeued continues where it was. After the array, one call without --part reads all results:
#
#     sbatch examples/launch_slurm.sh
#     python examples/many_networks.py

cd "${SLURM_SUBMIT_DIR:-.}" || exit 1
exec "${PYTHON:-python}" examples/many_networks.py --part "$SLURM_ARRAY_TASK_ID" "${PARTS:-8}"
