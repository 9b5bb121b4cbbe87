"""The OpenAPI document: what a server's pages and models take and answer, field by field."""
