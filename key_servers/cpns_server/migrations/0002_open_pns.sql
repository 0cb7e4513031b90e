-- Which PNs take PNEs as they come; in the others an operator admits each PNE first (SEC-16). Those of before took them.

ALTER TABLE gateways ADD COLUMN is_open INTEGER NOT NULL DEFAULT 1 CHECK (is_open IN (0, 1));
