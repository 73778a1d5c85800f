"""The control plane on this machine: `up`, `down`, `status`, `doctor`, `recover`."""
