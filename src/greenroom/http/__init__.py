"""HTTP: what a worker answers, and how. The one package, with ``wiring``, that knows Starlette."""
