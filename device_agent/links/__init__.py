"""Links a board speaks on; each is a `ports.Link`."""
