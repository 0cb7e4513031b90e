-- What people see of boards: nothing is decided by it

ALTER TABLE pne ADD COLUMN software TEXT NOT NULL DEFAULT '';       -- of the agent, as the board says; '' not yet
ALTER TABLE pne ADD COLUMN heard_at INTEGER NOT NULL DEFAULT 0;     -- last, in Unix seconds, written now and then
ALTER TABLE pne ADD COLUMN heard_from TEXT NOT NULL DEFAULT '';     -- its address then
