"""Single faults put into real artifacts, to see whether the gate finds each of them."""
