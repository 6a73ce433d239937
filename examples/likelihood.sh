#!/usr/bin/env bash
#
# VAE and IWAE on binarised digits: -log p(x) in nats; 86.76 and 84.78 are published on MNIST.
#
#     usage: likelihood.sh [DATA [IMAGES [OUT]]]
#
#     examples/likelihood.sh                            # MNIST, fetched (not run by its authors yet)
#     examples/likelihood.sh builtin:digits 2000000     # needs no file; other digits, other figures
#     RECIPE=pythae examples/likelihood.sh              # the smaller network below
#
# The recipe of Burda et al. 2016 (arXiv:1509.00519), section 5 and Table 1 with one stochastic layer:
# two layers of 200 tanhs each way, 50 latents, batches of 20, Adam, 3,280 passes over 60,000 images;
# grey levels drawn to black or white anew whenever they are looked at; -log p(x) by 5,000 importance
# samples on the images for testing. (On one fixed binarisation the same paper has 88.71 and 87.10.)
#
# What differs: the learning rate falls from 1e-3 along a half cosine, not from 1e-3 to 1e-4 in steps;
# Adam has other moments; figures are those of averaged weights; layers begin as PyTorch has them; and
# the encoder of the IWAE learns by the doubly reparameterised gradient.
#
# RECIPE=pythae has one layer of 400 each way, 40 latents, batches of 100, Adam at 1e-4 and 500 passes,
# as that library's published reproductions do: 89.78 (VAE, 200 samples) and 86.82 (IWAE).
#
# "iw-5000" in the table, its sign turned, is the estimate of -log p(x). IMPORTANCE=500 in the
# environment takes fewer samples. A torchvision set is scored on its part for testing, other data on a
# tenth that --holdout keeps out.
#
# Makes OUT/vae and OUT/iwae, and prints the table of both.

set -euo pipefail

if [[ $# -gt 3 ]]; then
    echo "usage: ${0##*/} [DATA [IMAGES [OUT]]]" >&2
    exit 2
fi
data=${1:-torchvision:MNIST}
case "${RECIPE:-burda}" in
    burda)
        network=(-o hidden=200 -o dense_layers=2 -o activation=tanh -o latent_size=50)
        learning=(--lr 1e-3 --batch 20) budget=196800000
        ;;
    pythae)
        network=(-o hidden=400 -o latent_size=40)
        learning=(--lr 1e-4 --batch 100) budget=30000000
        ;;
    *)
        echo "RECIPE=$RECIPE is neither burda nor pythae" >&2
        exit 2
        ;;
esac
images=${2:-$budget}
out=${3:-runs/likelihood}

case "$data" in
    torchvision:*) test=$data:test holdout=0 ;;
    *) test=$data holdout=0.1 ;;
esac

train() { # NAME SAMPLES
    gentool train iwae --data "$data" --download --size 28 --unconditional --holdout "$holdout" \
        "${network[@]}" -o prior=normal -o binarise=true -o samples="$2" \
        "${learning[@]}" --images "$images" --score-every 0 --out "$out/$1" >&2
}

train vae 1
train iwae 50
gentool evaluate "$out/vae" "$out/iwae" --data "$test" --download --metrics likelihood \
    --importance "${IMPORTANCE:-5000}" --likelihood-images 10000
