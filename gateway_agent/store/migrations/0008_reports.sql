-- How the key came to each PNE, for the delivery report

ALTER TABLE recipient ADD COLUMN link TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recipient ADD COLUMN confirmed_at INTEGER NOT NULL DEFAULT 0;
