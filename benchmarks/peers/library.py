FACTS = {f"film{n}": f"star{n}" for n in range(20)} | {f"star{n}": f"town{n % 7}" for n in range(20)}


def search(query: str) -> str:
    """Look up what is known of a film or a person."""
    return FACTS[query]
