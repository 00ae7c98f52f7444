-- Nearly all of its time is spent between BEGIN and COMMIT, with a journal, locks on the database, and a cache so small
-- that changed pages are written before the commit.
PRAGMA journal_mode = DELETE;
PRAGMA cache_size = 200;
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER);
CREATE INDEX by_owner ON account (owner);
BEGIN IMMEDIATE;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO account SELECT i, 'owner ' || (i * 7919 % 60013), i * 37 % 1009 FROM n;
SELECT 'filled', count(*), sum(balance) FROM account;
UPDATE account SET balance = balance + id % 5 WHERE id % 3 = 0;
SELECT 'first', sum(balance) FROM account;
SAVEPOINT half;
DELETE FROM account WHERE id % 7 = 0;
SELECT 'without', count(*) FROM account;
ROLLBACK TO half;
UPDATE account SET owner = owner || ' ' || balance WHERE id % 4 = 1;
SELECT 'second', count(DISTINCT owner) FROM account;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900000)
SELECT 'counted', sum(i % 17) FROM n;
COMMIT;
PRAGMA integrity_check;
SELECT 'end', count(*), sum(balance), sum(length(owner)) FROM account;
