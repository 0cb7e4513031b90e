-- A board that was let in by pairing and has not been heard of since may not know it: its pairing may be repeated.

ALTER TABLE credential ADD COLUMN pairing INTEGER NOT NULL DEFAULT 0 CHECK (pairing IN (0, 1));
