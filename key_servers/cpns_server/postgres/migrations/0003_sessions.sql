-- The credentials and OSCORE contexts of the message plane (docs/protocol.md sections 2 and 3), for several processes.

CREATE TABLE credential (
    entity_id TEXT PRIMARY KEY,
    role      TEXT NOT NULL CHECK (role IN ('pne', 'gateway', 'server')),
    x         BLOB NOT NULL UNIQUE CHECK (length(x) = 32),  -- one key, one name (SEC-16)
    ccs       BLOB NOT NULL,
    kid       BLOB NOT NULL CHECK (length(kid) = 8),
    UNIQUE (entity_id, x)
);

CREATE TABLE oscore_context (
    recipient_id   BLOB PRIMARY KEY,
    sender_id      BLOB NOT NULL,
    entity_id      TEXT NOT NULL,
    x              BLOB NOT NULL,           -- the key of `entity_id` when the handshake was made
    master_secret  BLOB NOT NULL CHECK (length(master_secret) = 16),
    master_salt    BLOB NOT NULL CHECK (length(master_salt) = 8),
    established    INTEGER NOT NULL,        -- Unix seconds
    sender_ceiling INTEGER NOT NULL,        -- numbers below it may have been used; the next holder goes on from here
    place          TEXT,
    lived_s        INTEGER NOT NULL,
    shard          INTEGER NOT NULL REFERENCES shard (shard),  -- only its holder may use the context (SEC-23)
    made           INTEGER GENERATED ALWAYS AS IDENTITY,  -- the order in which they were made
    FOREIGN KEY (entity_id, x) REFERENCES credential (entity_id, x) ON DELETE CASCADE
);
CREATE INDEX oscore_context_by_shard ON oscore_context (shard);
CREATE INDEX oscore_context_by_entity ON oscore_context (entity_id, x);

-- The key under which the contexts were made.
CREATE TABLE session_owner (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    x           BLOB NOT NULL
);
