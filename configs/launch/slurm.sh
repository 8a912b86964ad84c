#!/bin/bash
# One fit on four machines of four GPUs each, under Slurm. vigmm finds the other tasks by itself.
#
#     sbatch configs/launch/slurm.sh my.yaml
#
# A run that is preempted or loses a process ends with exit code 75 and is queued again by the last lines; the
# same command goes on from the last checkpoint. A machine that fails is Slurm's business, which queues the job
# again too. The run folder and the data must be on a file system that all machines see.
#SBATCH --job-name=vigmm
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
# Not --gpus-per-task: of the GPUs of its node JAX gives each task the one with its number there, so every task
# must see all of them.
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM two minutes before the end of the time: vigmm saves the run and ends.
#SBATCH --signal=TERM@120

# Tasks end by themselves when one is lost; Slurm would not wait for a checkpoint that is being written.
srun --kill-on-bad-exit=0 vigmm fit "${1:?name a configuration}"
code=$?
# This is the highest code of all tasks: 75, or 137 or 143 where one was killed. As 75 hides the lower codes of
# errors (the task that had one says what it was), it does not go on for ever.
case "$code" in
  75 | 137 | 143)
    if [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
      scontrol requeue "$SLURM_JOB_ID"
    fi
    ;;
esac
exit "$code"
