"""The same turn with the sessions of other libraries, each with a model that answers in the process.

They are the extra `peers`; what is not installed is skipped:

    python3 -m venv peers && peers/bin/pip install -e '.[test,peers]'
    peers/bin/python -m tests.benchmarks --only peers

pydantic-ai is not among them, since it leaves it to the application to store the messages.
"""

MODULES = {
    "agno": "agno",
    "google-adk": "google_adk",
    "langgraph": "langgraph",
    "openai-agents": "openai_agents",
}
"""The name of the distribution, and of the module with its adapter."""
