"""The processes of the control plane on this machine, and the directory that they run in."""
