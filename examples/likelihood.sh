#!/usr/bin/env bash
#
# VAE and IWAE on binarised digits: -log p(x) in nats, for which 89.8 and 86.8 are published on MNIST.
#
#     usage: likelihood.sh [DATA [IMAGES [OUT]]]
#
#     examples/likelihood.sh                            # MNIST, fetched (not run by its authors yet)
#     examples/likelihood.sh builtin:digits 2000000     # needs no file; other digits, other figures
#
# Burda et al. 2016 (arXiv:1509.00519), with the settings by which pythae reproduces the VAE: one
# hidden layer of 400 ReLUs each way, 40 latents, a learning rate of 1e-4 (here falling), batches of
# 100 and as many images as 500 passes over 60,000. It has 89.8 nats for the VAE, and 86.8 for an IWAE
# of 50 samples with two layers of 200 tanhs, both on a fixed binarisation. Here grey levels are drawn
# to black or white anew whenever they are looked at, which moves both by some nats, and both models
# have the same network, so that the bound alone differs. "iw-500", its sign turned, is the estimate
# of -log p(x) by 500 importance samples, on 256 images of the tenth that --holdout keeps out.
#
# Makes OUT/vae and OUT/iwae, and prints the table of both.

set -euo pipefail

if [[ $# -gt 3 ]]; then
    echo "usage: ${0##*/} [DATA [IMAGES [OUT]]]" >&2
    exit 2
fi
data=${1:-torchvision:MNIST}
images=${2:-30000000}
out=${3:-runs/likelihood}

train() { # NAME SAMPLES
    gentool train iwae --data "$data" --download --size 28 --unconditional --holdout 0.1 \
        -o hidden=400 -o latent_size=40 -o prior=normal -o binarise=true -o samples="$2" \
        --lr 1e-4 --batch 100 --images "$images" --score-every 0 --out "$out/$1" >&2
}

train vae 1
train iwae 50
gentool evaluate "$out/vae" "$out/iwae" --data "$data" --metrics likelihood --importance 500
