"""Who is calling, and what they may do: principals, credentials, tokens, keys, policies as data, and the state store.

A leaf: it knows no wire, no SQL and nothing of the server it guards, so it could guard any gRPC service. The door is
``authenticator.Authenticator``; every refusal is an ``errors.AuthError`` that the caller turns into its own status.
Import the module you need: this file loads none of them, so that naming a ``Principal`` costs no cryptography.
"""
