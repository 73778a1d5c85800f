"""The variables of a client that a command line may depend on."""

SERVER, ARRAY, HOST = "KEYREEVE_SERVER", "KEYREEVE_ARRAY", "HOSTNAME"
ENVIRONMENT = (SERVER, ARRAY, HOST)
