"""What CPNS says, and nothing about how it travels: messages, keys, covers, broadcast object, group messages."""
