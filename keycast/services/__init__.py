"""What `keycast gateway run` and `keycast server run` are put together of, and what they can be told while they run."""
