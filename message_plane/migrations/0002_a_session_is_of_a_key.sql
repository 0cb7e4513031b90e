-- A session is of a key, not of a name (SEC-32): a context names the key that it was made with, and ends with it.
-- Contexts of before do not tell theirs, and one of a replaced key may be among them: they end; peers make new ones.

DELETE FROM oscore_context;  -- overwritten, which dropping alone need not do
DROP TABLE oscore_context;

CREATE UNIQUE INDEX credential_by_name_and_key ON credential (entity_id, x);

CREATE TABLE oscore_context (
    recipient_id   BLOB PRIMARY KEY,  -- ours: the kid of what the peer sends
    sender_id      BLOB NOT NULL,
    entity_id      TEXT NOT NULL,
    x              BLOB NOT NULL,     -- the key of `entity_id` when the handshake was made
    master_secret  BLOB NOT NULL CHECK (length(master_secret) = 16),
    master_salt    BLOB NOT NULL CHECK (length(master_salt) = 8),
    established    INTEGER NOT NULL,  -- Unix seconds
    sender_ceiling INTEGER NOT NULL,  -- numbers below it may have been used; the next process goes on from here
    host           TEXT,              -- where the peer's last verified request came from, or where it listens
    port           INTEGER,
    FOREIGN KEY (entity_id, x) REFERENCES credential (entity_id, x) ON DELETE CASCADE
) STRICT;

CREATE INDEX oscore_context_by_entity ON oscore_context (entity_id, x);
