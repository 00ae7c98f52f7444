# PostgreSQL and four of its clients, which transact over its unix socket. The sums are random, but always the same.
here=$(cd .. && pwd)
programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
nobody=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
export PGHOST=$here PGPORT=5432 PGUSER=bank PGDATABASE=postgres PATH=$programs:$PATH

"${nobody[@]}" initdb --pgdata="$here/data" --username=bank --auth=trust --no-sync >"$here/initdb.log" || exit 1
"${nobody[@]}" postgres -D "$here/data" -k "$here" -F -h "" -p 5432 >"$here/postgres.log" 2>&1 &
server=$!
until psql -XAtqc 'select 1' >"$here/asked" 2>&1; do sleep 0.05; done
pgbench -i -q >"$here/tables.log" 2>&1 || exit 1
pgbench -n -c 4 -t 400 --random-seed=1 2>"$here/bench.log" |
    grep "^number of transactions actually"

psql -XAtq <<'END'
select count(*), sum(delta) from pgbench_history;
select md5(string_agg(aid || ' ' || abalance, ',' order by aid)) from pgbench_accounts;
select md5(string_agg(tid || ' ' || tbalance, ',' order by tid)) from pgbench_tellers;
select sum(bbalance) from pgbench_branches;
END
kill -INT "$server"
wait "$server"
echo "it ended with $?"
# Who had hardly left is sent away.
grep -E 'PANIC|FATAL|ERROR|terminated by signal' "$here/postgres.log" |
    grep -Ev 'starting up|administrator command' || rm -r "$here/data"
