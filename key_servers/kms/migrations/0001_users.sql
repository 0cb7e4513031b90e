-- Who may ask for keys. Times are Unix seconds. Tokens are stored as the SHA-256 of their secret part, in hexadecimal.
CREATE TABLE kms_users (
    user_uri TEXT PRIMARY KEY,
    role TEXT NOT NULL CHECK (role IN ('user', 'gms')),
    added_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE kms_tokens (
    token_id TEXT PRIMARY KEY,
    user_uri TEXT NOT NULL UNIQUE REFERENCES kms_users (user_uri) ON DELETE CASCADE,
    secret_hash TEXT NOT NULL,
    valid_to BIGINT NOT NULL
);

-- Certificates of other KMSs, as XML. cache_number grows with every change (CertCache).
CREATE TABLE kms_certificates (
    kms_uri TEXT PRIMARY KEY,
    cache_number BIGINT NOT NULL,
    document TEXT NOT NULL
);

CREATE TABLE kms_cache_number (newest BIGINT NOT NULL);

INSERT INTO kms_cache_number VALUES (0)
