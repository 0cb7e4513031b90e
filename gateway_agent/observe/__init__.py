"""What a running gateway shows of itself: its events as they happen, its state, its health and its figures."""
