"""Who is a member of which Service Group: joins, leaves, expulsions, and groups that are gone."""
