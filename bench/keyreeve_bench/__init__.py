"""The load tool behind `keyreeve bench`: measures the signing path of a control plane, and checks what it measured."""
