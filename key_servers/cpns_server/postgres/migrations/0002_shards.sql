-- Which process uses the sessions of which PN GWs (SEC-23). Times are milliseconds since 1970 by the database's clock.

CREATE TABLE shard (
    shard       INTEGER PRIMARY KEY,
    holder      TEXT,                       -- the process; NULL if none has it
    token       INTEGER NOT NULL,           -- fencing token, which only grows
    expires     INTEGER NOT NULL            -- from then on others may claim it
);
INSERT INTO shard SELECT number, NULL, 0, 0 FROM generate_series(0, 63) AS number;

-- The living processes, which share the shards.
CREATE TABLE server_process (
    holder      TEXT PRIMARY KEY,
    expires     INTEGER NOT NULL
);
