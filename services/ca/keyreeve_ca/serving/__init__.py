"""The CA's RPCs: messages become values, values become messages; who may call what; no decisions."""
