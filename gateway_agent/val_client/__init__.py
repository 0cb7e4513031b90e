"""The gateway as a VAL or MC client: identity-specific keys from a KMS, Group Master Keys from a GMS.

Words: SEAL is the 3GPP service layer, with its key, group and configuration management servers; a VAL client is the
role that this gateway, and a board that opens its own messages, plays below it. So what belongs to the servers, or to
both sides together, is called `seal`; what plays the role is called `val_client`. The section `[seal]`, `keycast seal`
and the files that stand in a state folder keep their names.
"""
