"""`tarantella`: the command of the remote-desktop product."""
