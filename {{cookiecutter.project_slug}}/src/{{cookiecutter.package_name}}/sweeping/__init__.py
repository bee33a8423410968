"""Many runs at once: which ones, their processes, what is shown of them."""
