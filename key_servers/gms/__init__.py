"""The group management server (GMS): makes group master keys (GMK) and hands them to the users of its groups."""
