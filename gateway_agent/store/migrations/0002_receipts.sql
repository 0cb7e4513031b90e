-- Receipts in the PN GW's own hand take the place of counting what PNEs claim (SEC-34)

ALTER TABLE pn ADD COLUMN receipt_key BLOB NOT NULL DEFAULT X'';    -- of their MAC; none in a backup
ALTER TABLE pne DROP COLUMN ahead;
