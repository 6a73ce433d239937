#!/usr/bin/env bash
#
# VAE and IWAE by the published recipe: log p(x) of binarised digits, beside 89.8 and 86.8 nats.
#
#     usage: likelihood.sh [DATA [IMAGES [OUT]]]
#
#     examples/likelihood.sh                            # MNIST, fetched; a day on two cores
#     examples/likelihood.sh builtin:digits 2000000     # needs no file; other digits, other figures
#
# Burda et al. 2016 (arXiv:1509.00519) as reproduced with one hidden layer of 400 units each way and
# 40 latents: 500 passes over 60,000 images, a learning rate of 1e-4 and batches of 100; grey levels
# are drawn to black or white anew whenever they are looked at. 89.8 (VAE) and 86.8 (IWAE with 50
# samples) are published for it, -log p(x) of the test images in nats; here it is that of the tenth
# that --holdout keeps out, by 500 importance samples ("iw-500", with its sign turned).
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
