"""The commands: one module for each first word of `keycast`, such as `gateway` or `board`."""
