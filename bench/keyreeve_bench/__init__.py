"""Load tool behind `keyreeve bench`: measures a control plane's signing path and verifies what it measured."""
