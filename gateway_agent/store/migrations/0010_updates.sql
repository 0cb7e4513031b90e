-- Updates of boards: what is offered, and what boards have said. The signed files are in the folder `updates`

CREATE TABLE update_offer (
    update_id BLOB PRIMARY KEY,             -- first 8 octets of the digest of its manifest
    by_broadcast INTEGER NOT NULL,          -- 1: it is broadcast, 0: each board pulls
    sealed_for TEXT NOT NULL,               -- SG ID of the group under whose key it is broadcast, '' = in clear
    position INTEGER NOT NULL,              -- how many datagrams of its airing are sent
    offered_at INTEGER NOT NULL             -- Unix seconds, for people
) WITHOUT ROWID;

CREATE TABLE update_target (                -- whom an offer is for; no row: every board
    update_id BLOB NOT NULL,
    what TEXT NOT NULL,                     -- 'board' or 'group'
    name TEXT NOT NULL,                     -- PNE ID or SG ID
    PRIMARY KEY (update_id, what, name)
) WITHOUT ROWID;

CREATE TABLE update_report (                -- what a board has said last
    pne_id TEXT PRIMARY KEY,
    class_ids BLOB NOT NULL,                -- what it can be updated in, 16 octets each
    key_id BLOB NOT NULL,                   -- of its update key, empty without one
    agent_number INTEGER NOT NULL,
    firmware_number INTEGER NOT NULL,
    state INTEGER NOT NULL,
    wanted INTEGER NOT NULL,                -- number that it works on or has tried last
    detail INTEGER NOT NULL,                -- pieces that are missing, or a reason
    since INTEGER NOT NULL                  -- Unix seconds, for people: it is in this state
) WITHOUT ROWID;
