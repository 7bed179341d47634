"""The web kit: one declarative table of operations, its ASGI application and its OpenAPI document."""
