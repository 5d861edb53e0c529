"""The measurements: history of steps, loads and profiles, and the estimates that are made from them."""
