"""The services `keycast gateway run` and `keycast server run` put together, and the commands that they accept."""
