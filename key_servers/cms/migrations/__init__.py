"""The schema of the CMS's store: one SQL file for each version, applied in order of their numbers."""
