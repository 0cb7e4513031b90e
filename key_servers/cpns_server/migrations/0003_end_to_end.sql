-- Service Groups whose keys PN GWs carry and cannot read (SEC-25, SEC-26).

ALTER TABLE groups ADD COLUMN trust TEXT NOT NULL DEFAULT 'gateway' CHECK (trust IN ('gateway', 'end-to-end'));

CREATE TRIGGER trust_stays BEFORE UPDATE ON groups WHEN new.trust <> old.trust
BEGIN
    SELECT RAISE(ABORT, 'the trust of a name would change');
END;

CREATE TABLE entity_user_key (
    pne_id      TEXT PRIMARY KEY,
    current     BLOB NOT NULL CHECK (length(current) = 16),
    previous    BLOB CHECK (length(previous) = 16),  -- until one proven use of the current one
    provisioned INTEGER NOT NULL CHECK (provisioned IN (0, 1))
) STRICT;

-- How far a PNE is in an end-to-end group, by its own proofs; no row = it has opened no key so far.
CREATE TABLE pne_positions (
    sg_id        TEXT NOT NULL REFERENCES groups,
    pne_id       TEXT NOT NULL,
    version      INTEGER NOT NULL,          -- of the newest key that it has, 0 = none
    tries        INTEGER NOT NULL,          -- requests that this version took
    confirmed_at INTEGER NOT NULL,          -- Unix seconds of the last proof, 0 = none
    last_return  TEXT NOT NULL,             -- '', '1', '2' or '3'
    PRIMARY KEY (sg_id, pne_id)
) STRICT;
