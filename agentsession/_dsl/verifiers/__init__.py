"""The verifiers. Each yields one `Problem` for each mistake in a declaration.

To add a verifier:

1. Write a function in the module that has its subject. Its name is the claim that it verifies
   (`verify_names_are_free`); it takes the draft and yields problems, each with where, what, why and a fix.
2. Add the function to the tuple at the end of the module (`AGENT_VERIFIERS`, `HOOK_VERIFIERS`,
   `TOOL_VERIFIERS`, `SESSION_VERIFIERS` or `MESSAGE_VERIFIERS`). The problems of an error have the
   order of the tuple.
3. Give it a bad and a good declaration in the `CASES` of `tests/dsl/test_*_verifiers.py`.

An option that is a simple value needs no verifier: its rule stands at its field in `agentsession/_options.py`
or `agentsession/_tools/tool_options.py`.
"""
