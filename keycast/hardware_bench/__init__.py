"""The checks that only real hardware can pass: what they are, and how a person is led through them at the desk."""
