#!/bin/bash
# Submit the three jobs, each after the previous one: bash pipeline/cluster/slurm/submit.sh SHARES OPTION...
# OPTIONs are those of `python -m pipeline dataset`. SBATCH_ACCOUNT, SBATCH_PARTITION and SBATCH_CONSTRAINT are
# Slurm's own way to say where; PYTHON names the interpreter.
set -euo pipefail
if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "error: the first argument must be the number of job-array tasks: bash pipeline/cluster/slurm/submit.sh 100 --spec pvt --midi lmd_full.tar.gz" >&2
  exit 2
fi
shares=$1
shift
for option in "$@"; do
  if [[ $option == --force* ]]; then
    echo "error: --force would move aside what other tasks build; move the old folder away yourself, then submit without it" >&2
    exit 2
  fi
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
export PYTHONSAFEPATH=1 PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"  # the jobs import this checkout, from any folder
plan=$(sbatch --parsable "$here/plan.sbatch" "$@")
shards=$(sbatch --parsable --dependency="afterok:${plan%%;*}" --array="0-$((shares - 1))" "$here/shards.sbatch" "$@")
finish=$(sbatch --parsable --dependency="afterany:${shards%%;*}" "$here/finish.sbatch" "$@")
echo "submitted: plan ${plan%%;*}, $shares tasks ${shards%%;*}, finish ${finish%%;*}"
