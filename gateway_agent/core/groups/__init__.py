"""Membership of Service Groups: joins, leaves, expulsions, and groups that were deleted."""
