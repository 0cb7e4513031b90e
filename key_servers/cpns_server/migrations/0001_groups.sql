-- Service Groups, their members, keys and deliveries. Names are never deleted: version floors outlive keys (SEC-04).

CREATE TABLE server (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    base_epoch  INTEGER NOT NULL CHECK (base_epoch BETWEEN 0 AND 65535)
) STRICT;
INSERT INTO server VALUES (1, 0);

CREATE TABLE gateways (
    gateway_id  TEXT PRIMARY KEY,
    pn_id       TEXT NOT NULL,
    form        TEXT NOT NULL CHECK (form IN ('cbor', 'xml')),
    blocked     INTEGER NOT NULL CHECK (blocked IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX one_gateway_serves_a_pn ON gateways (pn_id) WHERE blocked = 0;

CREATE TABLE pnes (
    pne_id      TEXT PRIMARY KEY,
    pn_id       TEXT NOT NULL
) STRICT;
CREATE INDEX pnes_of_a_pn ON pnes (pn_id);

CREATE TABLE groups (
    sg_id         TEXT PRIMARY KEY,
    owner         TEXT NOT NULL,            -- PNE ID, '' = an operator
    state         TEXT NOT NULL CHECK (state IN ('active', 'held', 'deleted')),
    policy        TEXT NOT NULL CHECK (policy IN ('open', 'listed')),
    protection    INTEGER NOT NULL,
    rekey_on_join INTEGER NOT NULL CHECK (rekey_on_join IN (0, 1)),
    period_s      INTEGER NOT NULL,
    version       INTEGER NOT NULL CHECK (version BETWEEN 0 AND 4294967295),
    pending       INTEGER,                  -- reason of an update that is due
    key_made_at   INTEGER NOT NULL          -- Unix seconds
) STRICT;

CREATE TRIGGER versions_only_grow BEFORE UPDATE ON groups WHEN new.version < old.version
BEGIN
    SELECT RAISE(ABORT, 'a version would go back');
END;

CREATE TABLE open_to (
    sg_id       TEXT NOT NULL REFERENCES groups,
    pn_id       TEXT NOT NULL,
    PRIMARY KEY (sg_id, pn_id)
) STRICT;

CREATE TABLE members (
    sg_id       TEXT NOT NULL REFERENCES groups,
    pne_id      TEXT NOT NULL,
    pn_id       TEXT NOT NULL,              -- where it is or was a member, '' before
    state       TEXT NOT NULL CHECK (state IN ('permitted', 'member', 'left', 'expelled')),
    since       INTEGER NOT NULL,           -- Unix seconds
    confirmed   INTEGER NOT NULL,           -- highest version its PN GW reported as confirmed
    report      TEXT NOT NULL,              -- last delivery report: '', 'confirmed', 'unreachable', 'excluded'
    PRIMARY KEY (sg_id, pne_id)
) STRICT;
CREATE INDEX groups_of_a_pne ON members (pne_id);
CREATE INDEX members_in_a_pn ON members (sg_id, pn_id) WHERE state = 'member';

CREATE TABLE group_keys (
    sg_id       TEXT NOT NULL REFERENCES groups,
    version     INTEGER NOT NULL,
    key         BLOB NOT NULL CHECK (length(key) = 16),
    activation  INTEGER NOT NULL,           -- Unix seconds, 0 = when stored
    reason      INTEGER NOT NULL,
    PRIMARY KEY (sg_id, version)
) STRICT;

-- One PN's part of an SG Inventory, and how far its PN GW said it is.
CREATE TABLE inventories (
    sg_id             TEXT NOT NULL REFERENCES groups,
    pn_id             TEXT NOT NULL,
    revision          INTEGER NOT NULL CHECK (revision BETWEEN 0 AND 4294967295),
    accepted_revision INTEGER NOT NULL,
    accepted_version  INTEGER NOT NULL,
    accepted_deleted  INTEGER NOT NULL CHECK (accepted_deleted IN (0, 1)),
    PRIMARY KEY (sg_id, pn_id)
) STRICT;

CREATE INDEX inventories_of_a_pn ON inventories (pn_id);

CREATE TRIGGER revisions_only_grow BEFORE UPDATE ON inventories WHEN new.revision < old.revision
BEGIN
    SELECT RAISE(ABORT, 'a revision would go back');
END;
