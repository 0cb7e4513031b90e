-- What the processes that share a database have in common besides the store (SEC-03, SEC-23).

-- Which database this is: a copy that was restored, or a standby that was promoted, differs in one of these.
CREATE TABLE history (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    system      TEXT NOT NULL,              -- system identifier of the PostgreSQL cluster
    timeline    INTEGER NOT NULL,
    relation    INTEGER NOT NULL,           -- OID of the table `server`: another one after pg_restore
    alive_at    INTEGER NOT NULL DEFAULT 0  -- Unix seconds by the database's clock, 0 = not known
);

-- The Server's own key, the same for all processes.
CREATE TABLE identity (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    octets      BLOB NOT NULL
);

-- What each process has to tell a person, shown by all of them.
CREATE TABLE alarm (
    holder      TEXT NOT NULL,              -- the process
    kind        TEXT NOT NULL,
    gateway_id  TEXT NOT NULL,
    sg_id       TEXT NOT NULL,
    pne_id      TEXT NOT NULL,
    since       INTEGER NOT NULL,           -- Unix seconds
    what        TEXT NOT NULL,
    PRIMARY KEY (holder, kind, gateway_id, sg_id, pne_id)
);
