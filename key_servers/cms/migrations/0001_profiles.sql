-- User profiles. `revision` grows with every change of a profile, `subscribed` is a flag.
CREATE TABLE cms_users (
    user_uri TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    subscribed BIGINT NOT NULL
);

CREATE TABLE cms_tokens (
    token_id TEXT PRIMARY KEY,
    user_uri TEXT NOT NULL UNIQUE REFERENCES cms_users (user_uri),
    secret_hash TEXT NOT NULL,
    valid_to BIGINT NOT NULL
);

CREATE TABLE cms_memberships (
    user_uri TEXT NOT NULL REFERENCES cms_users (user_uri),
    group_uri TEXT NOT NULL,
    gms_uri TEXT NOT NULL,
    PRIMARY KEY (user_uri, group_uri)
)
