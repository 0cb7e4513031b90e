"""Examines a gateway and its machine (`keycast doctor`): one file a check, one line in `examination.CHECKS`."""
