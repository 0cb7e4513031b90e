-- Nothing ends because of the wall clock (SEC-36): a context ages while an endpoint runs on it. Those of before begin anew.

ALTER TABLE oscore_context ADD COLUMN lived_s INTEGER NOT NULL DEFAULT 0;
