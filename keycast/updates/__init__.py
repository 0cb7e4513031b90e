"""Updates of boards at the desk: the offline key, and the files that it signs."""
