-- Generations age by running time alone (SEC-36); when one began is for people to read

ALTER TABLE generation DROP COLUMN replaced_unix;
