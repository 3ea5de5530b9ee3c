# From the project's root, with MNIST in the folder that DAYNIGHT_DATA names.
export OMP_NUM_THREADS=1
mkdir -p docs/results/mnist_nights
run() {
    out=runs/$1-$2-$3
    python examples/mnist_nights.py --paper --data full \
        --free "$1" --biases "$2" --seed "$3" --out "$out"
    cp "$out/result.json" "docs/results/mnist_nights/$1-$2-$3.json"
}
export -f run
for seed in 0 1 2; do
    for free in 0.995 0.99 0.95; do
        for biases in per-task freeze-after-first; do
            echo "$free $biases $seed"
        done
    done
done | xargs -P 2 -L 1 bash -c 'run "$0" "$1" "$2"'
