"""The boards and gateways that keycast knows: what the files in `hw_configs/` may say, and how they are read."""
