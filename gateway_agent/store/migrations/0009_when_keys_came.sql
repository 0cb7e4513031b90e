-- What people see of deliveries and boards: nothing is decided by it. Times are in Unix seconds, 0 = not known

ALTER TABLE delivery ADD COLUMN arrived_at INTEGER NOT NULL DEFAULT 0;      -- the key has come from the Server
ALTER TABLE delivery ADD COLUMN began_at INTEGER NOT NULL DEFAULT 0;        -- it was sent to boards
ALTER TABLE delivery ADD COLUMN ended_at INTEGER NOT NULL DEFAULT 0;        -- no board was open any more, the first time
ALTER TABLE pne ADD COLUMN heard_link TEXT NOT NULL DEFAULT '';             -- the link on which it was heard last
