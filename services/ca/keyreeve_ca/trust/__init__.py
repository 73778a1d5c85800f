"""What services need to know of callers: issuing CAs, operators, revocations, as one signed feed."""
