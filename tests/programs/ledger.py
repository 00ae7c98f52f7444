# Processes that write to one database of SQLite in WAL mode: they share the memory of its index (-shm) and its locks. One
# more reads all the time: whatever it sees is a whole number of transactions.
import os
import sqlite3

WRITERS, TRANSACTIONS, ACCOUNTS = 3, 400, 50


def connect():
    db = sqlite3.connect("../ledger.db", timeout=120, isolation_level=None)
    db.execute("pragma synchronous = off")
    db.execute("pragma wal_autocheckpoint = 40")
    return db


def write(number):
    db = connect()
    for i in range(TRANSACTIONS):
        one, two = (i * 7 + number) % ACCOUNTS, (i * 11 + number * 3 + 1) % ACCOUNTS
        db.execute("begin immediate")
        db.execute("update account set sum = sum - ? where id = ?", (i, one))
        db.execute("update account set sum = sum + ? where id = ?", (i, two))
        db.execute("insert into history values (?, ?, ?, ?)", (number, i, one, two))
        db.execute("commit")


def read(done):
    db = connect()
    while not os.path.exists(done):
        db.execute("begin")
        (total,) = db.execute("select sum(sum) from account").fetchone()
        (count,) = db.execute("select count(*) from history").fetchone()
        (again,) = db.execute("select count(*) from history").fetchone()
        db.execute("commit")
        assert total == 0 and count == again, (total, count, again)


def start(run, *arguments):
    pid = os.fork()
    if pid == 0:
        run(*arguments)
        os._exit(0)
    return pid


def main():
    db = connect()
    print(db.execute("pragma journal_mode = wal").fetchone())
    db.execute("create table account (id integer primary key, sum integer)")
    db.execute("create table history (writer integer, number integer, one integer, two integer)")
    db.executemany("insert into account values (?, 0)", [(i,) for i in range(ACCOUNTS)])
    db.close()
    reader = start(read, "../done")
    for writer in [start(write, number) for number in range(WRITERS)]:
        assert os.waitpid(writer, 0)[1] == 0
    os.close(os.open("../done", os.O_CREAT, 0o644))
    assert os.waitpid(reader, 0)[1] == 0
    db = connect()
    print(db.execute("pragma integrity_check").fetchall())
    print(db.execute("select writer, count(*), count(distinct number) from history group by writer").fetchall())
    print(db.execute("select id, sum from account order by id").fetchall())


main()
