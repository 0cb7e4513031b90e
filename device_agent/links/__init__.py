"""The links of a board; each is a `ports.Link`."""
