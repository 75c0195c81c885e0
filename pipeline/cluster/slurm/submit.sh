#!/bin/bash
# Submits the three jobs, each waiting for the one before: bash pipeline/cluster/slurm/submit.sh SHARES OPTION...
# OPTIONs are those of `python -m pipeline dataset`. SBATCH_ACCOUNT, SBATCH_PARTITION and SBATCH_CONSTRAINT are
# Slurm's own way to say where; PYTHON names the interpreter.
set -euo pipefail
if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "error: say in how many shares to build: bash pipeline/cluster/slurm/submit.sh 100 --spec pvt --midi lmd_full.tar.gz" >&2
  exit 2
fi
shares=$1
shift
for option in "$@"; do
  if [[ $option == --force* ]]; then
    echo "error: --force would move aside what other shares build; move the old folder away by hand, then submit without it" >&2
    exit 2
  fi
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
plan=$(sbatch --parsable "$here/plan.sbatch" "$@")
shards=$(sbatch --parsable --dependency="afterok:${plan%%;*}" --array="0-$((shares - 1))" "$here/shards.sbatch" "$@")
finish=$(sbatch --parsable --dependency="afterany:${shards%%;*}" "$here/finish.sbatch" "$@")
echo "submitted: plan ${plan%%;*}, $shares shares ${shards%%;*}, finish ${finish%%;*}"
