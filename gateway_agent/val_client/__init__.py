"""The gateway as a VAL or MC client: identity-specific keys from a KMS, Group Master Keys from a GMS.

SEAL is the 3GPP service layer, with its key, group and configuration management servers. A VAL client is the role that
uses them: of this gateway, and of a board that opens its own messages. Names with `seal` belong to the servers or to
both sides together, such as the section `[seal]`, the command `keycast seal` and files of a state folder; names with
`val_client` belong to the role.
"""
