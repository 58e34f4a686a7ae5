"""Many runs: which trials there are, who works them off, and what came out."""
