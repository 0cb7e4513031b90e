-- How the version that a PN GW reported as confirmed came to the member, and how often it was sent there.

ALTER TABLE members ADD COLUMN link TEXT NOT NULL DEFAULT '';
ALTER TABLE members ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN confirmed_at INTEGER NOT NULL DEFAULT 0;
