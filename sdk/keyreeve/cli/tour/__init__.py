"""`keyreeve tour`: an array at work on this machine, with real agents."""
