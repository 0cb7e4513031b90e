"""Public-key arithmetic for boards, which have no library for it."""
