"""What a board is given before its first start: its identity and, as a VAL client, its keys and groups."""
