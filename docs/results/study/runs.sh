#!/usr/bin/env bash
# Does all runs of the pages on reproduction and on choosing a policy, as far as they are not in the stores yet. Takes days
# of one core. Stop it at any time: it goes on where it was.
#
#     DAYNIGHT_DATA=/data JOBS=2 docs/results/study/runs.sh
#
# DEVICE=cuda does those on CIFAR10 on a GPU, as they were. Of the others a part was, as each run's entry says.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
STATES=${STATES:-states} CIFAR10=(--device "${DEVICE:-cpu}")

study() {
    local store=$1
    shift
    python -m daynight.study.paper "$@" --jobs "${JOBS:-1}" --store "docs/results/study/$store" --states "$STATES/$store"
}

# What says most comes first.
study mnist figure2 --prunings 0.995
study mnist figure1
study mnist dips --prunings 0.95 --cycles 1 8 72 --out paper/chosen_dip
study mnist table1
study cifar10 figure2 --dataset cifar10 --cycles 1 --seeds 3 "${CIFAR10[@]}"
for what in figure3 baselines choices figure2 dips optimizer; do study mnist "$what"; done
for what in figure2 figure1 baselines table1 figure3 figure4; do
    study cifar10-small "$what" --dataset cifar10-small "${CIFAR10[@]}"
done
tournament() {
    python -m daynight.study.tournament report --stream "$@" --jobs "${JOBS:-1}" --store docs/results/study \
        --states "$STATES"
}
for stream in mnist permuted rotated; do tournament "$stream"; done
tournament cifar10-small "${CIFAR10[@]}"
# New runs are loose files; each store is committed as one file.
python -m daynight study pack docs/results/study/*/
