-- A random number by which a Server notices another one of its identity that has another database.

ALTER TABLE server ADD COLUMN database_id BLOB;
