"""Backups of the state of a gateway or a server, and restores from them."""
