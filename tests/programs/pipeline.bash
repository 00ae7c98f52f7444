# A pipeline as it is typed: every command reads what the one before writes.
set -o pipefail
seq 1 400000 | awk '{ print ($1 * 7919) % 1000003, $1 }' | sort -n -S 64M --parallel=2 |
    tee copy | gzip -n -6 >sorted.gz
echo "the pipeline ended with $?, its parts with ${PIPESTATUS[*]}"
seq 1 60 | while read -r number; do
    echo "$number $(((number * number) % 97))" | cksum
done >sums
