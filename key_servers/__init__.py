"""The servers at the far end of a gateway's uplink: the CPNS Server, and the KMS, GMS and CMS for MIKEY-SAKKE."""
