#!/bin/bash
# One fit on four machines of four GPUs each, under Slurm. vigmm finds the other tasks by itself.
#
#     sbatch configs/launch/slurm.sh my.yaml
#
# A run that is preempted or loses a machine ends with exit code 75 and is queued again by the last lines; the
# same command goes on from the last checkpoint. The run folder and the data must be on a file system that all
# machines see.
#SBATCH --job-name=vigmm
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM two minutes before the end of the time: vigmm saves the run and ends.
#SBATCH --signal=TERM@120

srun --kill-on-bad-exit=1 vigmm fit "${1:?name a configuration}"
code=$?
if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
