-- Groups, users and GMKs of the GMS. Times are Unix seconds, flags 0 or 1, octets hexadecimal.
CREATE TABLE gms_users (
    user_uri TEXT PRIMARY KEY,
    permitted BIGINT NOT NULL,
    authorised_until BIGINT NOT NULL
);

CREATE TABLE gms_tokens (
    token_id TEXT PRIMARY KEY,
    user_uri TEXT NOT NULL UNIQUE REFERENCES gms_users (user_uri),
    secret_hash TEXT NOT NULL,
    valid_to BIGINT NOT NULL
);

CREATE TABLE gms_groups (
    group_uri TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    rekey_on_removal BIGINT NOT NULL
);

CREATE TABLE gms_members (
    group_uri TEXT NOT NULL REFERENCES gms_groups (group_uri),
    user_uri TEXT NOT NULL REFERENCES gms_users (user_uri),
    affiliation TEXT NOT NULL CHECK (affiliation IN ('implicit', 'explicit')),
    affiliated BIGINT NOT NULL,
    subscribed BIGINT NOT NULL,
    PRIMARY KEY (group_uri, user_uri)
);

CREATE INDEX gms_members_of_user ON gms_members (user_uri);

-- A row stays for ever, so that no GMK-ID is used twice, and the key itself is erased when nobody needs it any more.
CREATE TABLE gms_keys (
    key_id TEXT PRIMARY KEY,
    gmk TEXT,
    activation BIGINT NOT NULL,
    expiry BIGINT NOT NULL,
    text TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('live', 'retired', 'revoked')),
    made_at BIGINT NOT NULL
);

CREATE TABLE gms_key_groups (
    key_id TEXT NOT NULL REFERENCES gms_keys (key_id),
    group_uri TEXT NOT NULL REFERENCES gms_groups (group_uri),
    PRIMARY KEY (key_id, group_uri)
);

-- One notification to one user. `sequence` is the order in which a user gets them.
CREATE TABLE gms_deliveries (
    notice_id TEXT PRIMARY KEY,
    sequence BIGINT NOT NULL,
    key_id TEXT NOT NULL REFERENCES gms_keys (key_id),
    user_uri TEXT NOT NULL REFERENCES gms_users (user_uri),
    purpose TEXT NOT NULL CHECK (purpose IN ('key', 'revocation')),
    groups TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due BIGINT NOT NULL,
    code TEXT NOT NULL,
    text TEXT NOT NULL
);

CREATE INDEX gms_deliveries_of_user ON gms_deliveries (user_uri, state);

CREATE INDEX gms_deliveries_of_key ON gms_deliveries (key_id)
