-- Tokens of operators for the REST interface, the audit log of their commands, and how fast a group's key follows changes.

CREATE TABLE operator_token (
    token_id    TEXT PRIMARY KEY,
    operator    TEXT NOT NULL,
    scope       TEXT NOT NULL CHECK (scope IN ('read', 'operate', 'admin')),
    secret_hash TEXT NOT NULL,              -- SHA-256 in hexadecimal
    valid_to    INTEGER NOT NULL            -- Unix seconds
) STRICT;

-- Rows are only ever added, to both. A command without a row in audit_result was cut off, or refused by the medium.
CREATE TABLE audit_entry (
    entry       INTEGER PRIMARY KEY,
    begun_at    INTEGER NOT NULL,           -- Unix seconds, 0 = the clock was not set
    operator    TEXT NOT NULL,              -- user of this machine, or name of the token
    door        TEXT NOT NULL CHECK (door IN ('socket', 'rest')),
    command     TEXT NOT NULL,
    arguments   TEXT NOT NULL,              -- JSON, without secrets
    request_key TEXT NOT NULL               -- Idempotency-Key, '' = none
) STRICT;
CREATE INDEX audit_of_a_request_key ON audit_entry (operator, request_key);

CREATE TABLE audit_result (
    entry       INTEGER PRIMARY KEY REFERENCES audit_entry,
    ended_at    INTEGER NOT NULL,           -- Unix seconds
    result      TEXT NOT NULL,              -- 'done', or the code of the refusal
    answer      TEXT NOT NULL               -- JSON, for the same request once more; '' where it had no request key
) STRICT;

CREATE TRIGGER audit_entry_stays BEFORE UPDATE ON audit_entry
BEGIN
    SELECT RAISE(ABORT, 'the audit log only grows');
END;
CREATE TRIGGER audit_entry_is_kept BEFORE DELETE ON audit_entry
BEGIN
    SELECT RAISE(ABORT, 'the audit log only grows');
END;
CREATE TRIGGER audit_result_stays BEFORE UPDATE ON audit_result
BEGIN
    SELECT RAISE(ABORT, 'the audit log only grows');
END;
CREATE TRIGGER audit_result_is_kept BEFORE DELETE ON audit_result
BEGIN
    SELECT RAISE(ABORT, 'the audit log only grows');
END;

ALTER TABLE groups ADD COLUMN batching_ms INTEGER CHECK (batching_ms BETWEEN 0 AND 60000);  -- NULL = as configured
