"""Local programs that use the peer material: told to read it again, and looked at until they present it."""
