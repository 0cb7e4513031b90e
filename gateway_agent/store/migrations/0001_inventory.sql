-- The SG Inventory and all else the PN GW remembers. Tree master secrets are not here: see tree_masters.py.

CREATE TABLE pn (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    pn_id TEXT NOT NULL,
    gateway_id TEXT NOT NULL,
    pn_alias INTEGER NOT NULL,                      -- random, drawn once
    next_sg_alias INTEGER NOT NULL DEFAULT 1,       -- counts up, never re-used (SEC-08)
    last_generation INTEGER NOT NULL DEFAULT 0,
    signing_epoch INTEGER NOT NULL DEFAULT 1,
    behind INTEGER NOT NULL DEFAULT 1,              -- new or restored: the Server is expected to know more (SEC-02)
    stopped TEXT                                    -- why broadcasts and pulls are stopped (SEC-02), or NULL
);

CREATE TABLE pne (
    pne_id TEXT PRIMARY KEY,
    retired INTEGER NOT NULL DEFAULT 0,             -- lost, left the PN; comes back only by a person
    held INTEGER NOT NULL DEFAULT 0,                -- joins and leaves wait for a person (SEC-19)
    signing_epoch INTEGER NOT NULL,                 -- of the broadcast signing key it trusts (SEC-18)
    ahead INTEGER NOT NULL DEFAULT 0,               -- claims what this PN GW never gave (SEC-02)
    preferred_sg TEXT                               -- whose block of slots it should get
) WITHOUT ROWID;

CREATE TABLE service_group (
    sg_id TEXT PRIMARY KEY,
    alias INTEGER NOT NULL UNIQUE,
    protection INTEGER,                             -- NULL until the Server has told it
    version INTEGER NOT NULL DEFAULT 0,             -- highest ever stored; survives delete (SEC-04)
    revision INTEGER NOT NULL DEFAULT 0,            -- of the membership
    wanted_revision INTEGER NOT NULL DEFAULT 0,     -- highest the Server has named
    membership INTEGER NOT NULL DEFAULT 0,          -- counts every change of the GKEK
    exposed_version INTEGER,                        -- somebody outside knows this key (SEC-06)
    waiting INTEGER NOT NULL DEFAULT 0,             -- restored: nothing goes out before a new key (SEC-02)
    deleted INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE member (
    sg_id TEXT NOT NULL REFERENCES service_group (sg_id),
    pne_id TEXT NOT NULL REFERENCES pne (pne_id),
    floor INTEGER NOT NULL,                         -- only greater versions are for this member (SEC-04)
    revision INTEGER NOT NULL,                      -- that brought it in
    PRIMARY KEY (sg_id, pne_id)
) WITHOUT ROWID;
CREATE INDEX member_by_pne ON member (pne_id);

CREATE TABLE group_key (
    sg_id TEXT NOT NULL REFERENCES service_group (sg_id),
    version INTEGER NOT NULL,
    key BLOB NOT NULL,
    activation INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    PRIMARY KEY (sg_id, version)
) WITHOUT ROWID;

-- GKEK: the ordered indexes of the cover; subset keys follow from the tree master when used (SEC-29)
CREATE TABLE gkek (
    sg_id TEXT NOT NULL REFERENCES service_group (sg_id),
    generation INTEGER NOT NULL REFERENCES generation (generation),
    membership INTEGER NOT NULL,
    indexes BLOB NOT NULL,
    PRIMARY KEY (sg_id, generation)
) WITHOUT ROWID;

CREATE TABLE generation (
    generation INTEGER PRIMARY KEY,
    height INTEGER NOT NULL,
    profile INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,                      -- of the tree master secret: tells a foreign file
    lived_s REAL NOT NULL DEFAULT 0,                -- counted while the gateway runs
    born_unix INTEGER NOT NULL,                     -- 0 = clock was not synchronised
    replaced INTEGER NOT NULL DEFAULT 0,
    replaced_lived_s REAL,
    replaced_unix INTEGER
);

-- A slot without a row is FREE
CREATE TABLE slot (
    generation INTEGER NOT NULL REFERENCES generation (generation),
    slot INTEGER NOT NULL,
    pne_id TEXT NOT NULL,
    retired INTEGER NOT NULL DEFAULT 0,             -- ACTIVE 0, RETIRED 1
    delivered INTEGER NOT NULL DEFAULT 0,           -- the PNE has the GKDK
    PRIMARY KEY (generation, slot)
) WITHOUT ROWID;
CREATE UNIQUE INDEX slot_of_pne ON slot (pne_id, generation) WHERE retired = 0;

-- Aligned blocks of 8 slots kept for one Service Group: clustered groups have small covers
CREATE TABLE block (
    generation INTEGER NOT NULL REFERENCES generation (generation),
    block INTEGER NOT NULL,
    sg_id TEXT NOT NULL,
    PRIMARY KEY (generation, block)
) WITHOUT ROWID;

CREATE TABLE delivery (
    sg_id TEXT NOT NULL REFERENCES service_group (sg_id),
    version INTEGER NOT NULL,
    membership INTEGER NOT NULL,                    -- of the GKEK it started with
    revision INTEGER NOT NULL,                      -- of the membership it was made for
    phase TEXT NOT NULL CHECK (phase IN ('waiting', 'running', 'finished', 'superseded')),
    reported INTEGER NOT NULL DEFAULT 0,            -- 0: a delivery report is due
    PRIMARY KEY (sg_id, version)
) WITHOUT ROWID;

CREATE TABLE recipient (
    sg_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    pne_id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'confirmed', 'unreachable', 'excluded')),
    PRIMARY KEY (sg_id, version, pne_id),
    FOREIGN KEY (sg_id, version) REFERENCES delivery (sg_id, version)
) WITHOUT ROWID;

-- Leaves the Server has not yet acknowledged (SEC-06)
CREATE TABLE pending_leave (
    sg_id TEXT NOT NULL,
    pne_id TEXT NOT NULL,
    PRIMARY KEY (sg_id, pne_id)
) WITHOUT ROWID;

-- Announcements of new signing keys, in order, for PNEs that were away (SEC-18)
CREATE TABLE roll_over (
    epoch INTEGER PRIMARY KEY,
    message BLOB NOT NULL
);
