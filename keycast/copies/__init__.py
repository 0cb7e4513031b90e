"""Backups of what a gateway or a server keeps, and putting one back."""
