# Commands four at a time: xargs replaces each that ends by the next.
seq 1 48 | xargs -P 4 -n 1 sh -c '
    i=0 sum=$0
    while [ $i -lt 6000 ]; do
        sum=$(((sum * 31 + i) % 1000003)) i=$((i + 1))
    done
    echo "$0 $sum" >result.$0
    exit $(($0 % 7 == 0))'
echo "xargs ended with $?"
cat result.* | sort -n | cksum
