-- End-to-end groups, whose keys this PN GW carries and cannot read (SEC-26); stays set, also when a group is deleted

ALTER TABLE service_group ADD COLUMN end_to_end INTEGER NOT NULL DEFAULT 0;
