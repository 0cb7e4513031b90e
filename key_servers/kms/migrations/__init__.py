"""The schema of the KMS's store: one SQL file for each version, applied in order of their numbers."""
