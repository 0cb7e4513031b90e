"""The VAL/MC client: identity-specific keys from a KMS, Group Master Keys from a group management server."""
