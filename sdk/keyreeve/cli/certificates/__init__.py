"""Commands and files for certificates: issue, renew, verify, revoke."""
