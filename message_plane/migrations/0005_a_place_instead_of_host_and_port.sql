-- Where a peer was last is a place of a link of any kind, as text; that of before was a host and a port of UDP.

ALTER TABLE oscore_context ADD COLUMN place TEXT;  -- udp:192.168.1.10:5683, udp:[fe80::1]:5683

UPDATE oscore_context
SET place = 'udp:' || CASE WHEN instr(host, ':') THEN '[' || host || ']' ELSE host END || ':' || port
WHERE host IS NOT NULL AND port IS NOT NULL;

ALTER TABLE oscore_context DROP COLUMN host;
ALTER TABLE oscore_context DROP COLUMN port;
