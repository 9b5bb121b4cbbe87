"""Restoring: what a target served last, out of the model store alone.

Every file of it is verified; what is harmed is put away. Asking the registry is
:mod:`greenroom.deployment.following`'s business.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from greenroom.deployment.deployments import Target, no_deployment, runtime_of
from greenroom.errors import VersionCorrupt
from greenroom.inference.generation import Deployment
from greenroom.versions.model_store import ModelStore


def restored(target: Target, found: Deployment | None, store: ModelStore, uri: str) -> Deployment:
    """Return what a target served last, or why that is not served again.

    Parameters
    ----------
    target : Target
    found : Deployment, optional
        What the store remembers of it.
    store : ModelStore
    uri : str
        The registry that is followed.

    Returns
    -------
    Deployment
        Of nothing, without a reason, where nothing is known: another registered model, selector,
        place or registry may have selected anything else.
    """
    wanted = target.name, str(target.selector), target.place
    if found is None or (found.name, found.selector, found.place) != wanted:
        return no_deployment(target, "")
    found = replace(found, model=target.model, declared=target.declared)
    if found.serving is None:
        return found
    digest = found.serving.digest
    record = store.record(digest)
    if record is not None and record.provenance.uri != uri:
        return no_deployment(target, "")
    compiled = _verified_compiled(store, digest)
    try:
        directory = store.verify(digest)
        runtime = runtime_of(str(directory), compiled)
    except VersionCorrupt as error:
        store.discard(digest)
        return no_deployment(target, error.message, error.advice)
    serving = replace(found.serving, runtime=runtime)
    return replace(found, directory=str(directory), compiled=compiled, serving=serving)


def _verified_compiled(store: ModelStore, digest: str) -> str:
    """Return where what was compiled of a version is; what is harmed is removed."""
    try:
        return str(store.compiled.verify(digest) or "")
    except VersionCorrupt as error:
        # The version itself is whole: its estimator serves.
        logging.getLogger(__name__).warning("%s", error)
        store.compiled.discard(digest)
        return ""
