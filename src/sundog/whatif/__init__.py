"""Questions of the form "what if": a flow simulated with other machines, policies or failures."""
