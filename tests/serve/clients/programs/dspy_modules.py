"""Modules of DSPy: python dspy_modules.py BASE_URL MODEL"""

from __future__ import annotations

import json
import sys

import dspy


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def main(base_url: str, model: str) -> None:
    lm = dspy.LM(f"openai/{model}", api_base=base_url, api_key="none", cache=False, num_retries=0)
    dspy.configure(lm=lm)
    question = "How is the weather in Oslo?"
    predicted = dspy.Predict("question -> answer")(question=question)
    reasoned = dspy.ChainOfThought("question -> answer")(question=question)
    used = dspy.ReAct("question -> answer", tools=[weather], max_iters=3)(question=question)
    told = {
        "predicted": predicted.answer,
        "reasoned": reasoned.answer,
        "used": used.answer,
        "observed": used.trajectory.get("observation_0"),
    }
    print(json.dumps(told))  # noqa: T201 - what the test reads


main(*sys.argv[1:])
