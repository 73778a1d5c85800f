"""The switch that halts issuance everywhere."""
