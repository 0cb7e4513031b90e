"""The key management server (KMS) of MIKEY-SAKKE: identity-specific keys over HTTPS (TS 33.180 annex D)."""
