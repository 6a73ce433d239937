#!/usr/bin/env bash
#
# Generate images in batch from one model file: several seeds, each in shards, an archive made
# without a file per image, a grid to look at, and a listing for whatever comes next.
#
#     usage: generate_batch.sh MODEL OUT COUNT
#
#     examples/generate_batch.sh runs/gan-faces generated 1000
#     SEEDS="7 8 9" SHARDS=4 examples/generate_batch.sh model.safetensors generated 100000
#
# Image k of a seed is the same image however the work is split, to the byte. So the shards
# below may run one after another, as here, at once, or on as many machines as there are shards
# (in a job array, give each task one value of "shard"); they fill the same folder, and a shard
# that failed is simply run again.
#
# Makes, for each seed S:   OUT/seed-S/seed00000S-000000.png ...   COUNT images
#                           OUT/lists/seed-S-START.json     what each shard wrote
# and for the first seed:   OUT/seed-S.tar.gz, OUT/grid.png
# and prints every image's path, read from the lists.

set -euo pipefail

number='^[1-9][0-9]*$'
if [[ $# -ne 3 || ! $3 =~ $number || ! ${SHARDS:-2} =~ $number ]]; then
    echo "usage: ${0##*/} MODEL OUT COUNT   (environment: SEEDS=\"0 1\" SHARDS=2)" >&2
    exit 2
fi
model=$1
out=$2
count=$3
shards=${SHARDS:-2}
read -ra seeds <<<"${SEEDS:-0 1}"
first=${seeds[0]}

mkdir -p "$out/lists"

# 1. Every seed in shards: --start is a shard's first image, -n how many it makes.
for seed in "${seeds[@]}"; do
    for ((shard = 0; shard < shards; shard++)); do
        start=$((count * shard / shards))
        next=$((count * (shard + 1) / shards))
        if ((next == start)); then
            continue # more shards than images
        fi
        gentool sample "$model" --seed "$seed" --start "$start" -n $((next - start)) \
            -o "$out/seed-$seed/" --json >"$out/lists/seed-$seed-$start.json"
    done
done

# 2. One stream instead of many files: "-o -" is a tar on stdout. Instead of gzip, it could go
#    to "ssh host tar x" or to an object store.
gentool sample "$model" --seed "$first" -n "$count" -o - | gzip -n >"$out/seed-$first.tar.gz"

# 3. The first images in one picture.
gentool sample "$model" --seed "$first" -n $((count < 64 ? count : 64)) -o "$out/grid.png" >&2

# 4. The lists are JSON; Python reads them without further tools.
python3 -c '
import json, pathlib, sys
files = set()  # a shard that ran twice lists its files twice
for path in sorted(pathlib.Path(sys.argv[1]).glob("seed-*.json")):
    files.update(json.loads(path.read_text())["files"])
print(*sorted(files), sep="\n")
' "$out/lists"
