"""Updates of boards: what a gateway offers, how boards get it, what they say about it (docs/protocol.md section 16)."""
