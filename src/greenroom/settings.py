"""Settings: where and how things run. Never what a model is; that is the app's.

Where their values come from is :mod:`greenroom.settings_sources`; those of monitoring are in
:mod:`greenroom.monitoring_settings`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from greenroom.monitoring_settings import MonitoringSettings

Seconds = Annotated[float, Meta(gt=0)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Origin = Annotated[str, Meta(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s]+)$")]


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is deployed under a model's route: another registered name, another selector.

    With a ``fallback_path`` training keeps its version in that file too, which a server answers
    with where the registry and the model store can give it none. The columns that ``log_`` settings
    name are not kept in the prediction log as they were sent.
    """

    name: str = ""
    serve: str = ""
    fallback_path: str = ""
    log_leave_out: tuple[str, ...] = ()
    log_hash: tuple[str, ...] = ()
    log_round: dict[str, Annotated[float, Meta(gt=0)]] = {}


class Settings(MonitoringSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting, with its default.

    A setting called ``port`` is ``port:`` in the file and ``GREENROOM_PORT`` in the environment.
    """

    home: Annotated[str, Meta(description="Where state lives; relative to the app's folder.")] = (
        ".greenroom"
    )
    tracking_uri: Annotated[str, Meta(description="The MLflow server.")] = "http://127.0.0.1:5000"
    mlflow_enabled: Annotated[
        bool,
        Meta(
            description="Whether the registry is asked at all; if not, the fallback file alone is "
            "served."
        ),
    ] = True
    host: Annotated[str, Meta(description="The address that the server listens on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="The port that the server listens on.")] = 8000
    workers: Annotated[int, Meta(ge=1, le=256, description="How many worker processes serve.")] = 1
    environment: Annotated[
        Literal["dev", "prod"],
        Meta(description="What the server is for; `prod` starts with tokens alone."),
    ] = "dev"
    prod_artifacts: Annotated[
        str,
        Meta(
            pattern=r"^([a-z0-9]+://[^/\s]+.*)?$",
            description="In `prod`, where the files of versions have to lie, as "
            "`gs://bucket/folder`: training puts them there, and a version from elsewhere is not "
            "served. Empty: wherever MLflow keeps them.",
        ),
    ] = ""
    auth: Annotated[
        Literal["none", "tokens"],
        Meta(description="How callers prove who they are; `none` is for development."),
    ] = "none"
    allow_open: Annotated[
        bool,
        Meta(
            description="Allow `auth: none` and `development_tokens` on an address that other "
            "machines can reach."
        ),
    ] = False
    tokens_file: Annotated[
        str, Meta(description="Where `greenroom token` keeps tokens; relative to `home`.")
    ] = "tokens.json"
    tokens: Annotated[
        tuple[str, ...],
        Meta(description="Further tokens, each as `name:scope+scope:SHA-256`."),
    ] = ()
    development_tokens: Annotated[
        tuple[str, ...],
        Meta(description="Tokens in plain text, each as `name:scope+scope:token`."),
    ] = ()
    ssl_certfile: Annotated[
        str, Meta(description="The certificate chain (PEM) that HTTPS is served with.")
    ] = ""
    ssl_keyfile: Annotated[
        str, Meta(description="The certificate's private key (PEM), without a passphrase.")
    ] = ""
    cors_origins: Annotated[
        tuple[Origin, ...],
        Meta(description="Whose pages in a browser may call the server: origins, or `*`."),
    ] = ()
    generated: Annotated[
        bool, Meta(description="Train on generated data where the dataset is absent.")
    ] = False
    poll_interval_s: Annotated[
        Seconds, Meta(description="How often the registry is asked what is selected.")
    ] = 2.0
    registry_timeout_s: Annotated[
        Seconds, Meta(description="How long one call to the registry may take.")
    ] = 5.0
    load_timeout_s: Annotated[
        Seconds, Meta(description="How long a worker may take to load and warm a version.")
    ] = 120.0
    drain_timeout_s: Annotated[
        Seconds, Meta(description="How long a stopping worker may finish its requests.")
    ] = 10.0
    worker_silent_s: Annotated[
        float,
        Meta(
            ge=3, description="After how long a worker whose event loop does not run is replaced."
        ),
    ] = 30.0
    mlflow_start_timeout_s: Annotated[
        Seconds,
        Meta(
            description="How long an MLflow server may take to start answering: one that `up` "
            "starts, or that `register` waits for."
        ),
    ] = 180.0
    max_loaded: Annotated[
        int,
        Meta(
            ge=0,
            description="How many models a worker has in memory, each loaded on its first use; "
            "`0`: all, at once.",
        ),
    ] = 0
    max_body_bytes: Annotated[
        int, Meta(ge=1024, description="The largest request body that is read.")
    ] = 4_194_304
    max_header_bytes: Annotated[
        int, Meta(ge=4096, description="The largest head of a request: its line and headers.")
    ] = 65_536
    max_in_flight: Annotated[
        int,
        Meta(ge=1, description="How many requests a worker answers at a time; others get 503."),
    ] = 1_000
    request_timeout_s: Annotated[
        Seconds,
        Meta(description="How long a request may take to arrive, and then to be answered."),
    ] = 60.0
    max_batch_rows: Annotated[
        int, Meta(ge=1, description="How many rows of waiting requests are predicted in one call.")
    ] = 256
    keep_versions: Annotated[
        int, Meta(ge=1, description="How many versions of a model the store keeps on disk.")
    ] = 3
    reference_rows: Annotated[
        int, Meta(ge=10, description="How many rows the reference sample of a version holds.")
    ] = 1_000
    trust: Annotated[
        Literal["any", "onnx"],
        Meta(
            description="What may run: `any` version, or with `onnx` compiled ones only, and "
            "nothing is unpickled."
        ),
    ] = "any"
    reload_on_change: Annotated[
        bool,
        Meta(
            description="Restart the workers, without a gap, when code of the app has changed; "
            "for development."
        ),
    ] = False
    log: Annotated[bool, Meta(description="Keep every prediction in the prediction log.")] = True
    log_uri: Annotated[
        str,
        Meta(
            description="Where the log's tables are: a folder or an address such as "
            "`s3://bucket/log`; default: `log` in `home`."
        ),
    ] = ""
    log_when_full: Annotated[
        Literal["refuse", "serve"],
        Meta(
            description="A prediction that the log has no room for is refused (503), or answered "
            "without a record and counted."
        ),
    ] = "refuse"
    log_max_bytes: Annotated[
        int,
        Meta(ge=2**26, description="How much disk predictions may take that are not shipped yet."),
    ] = 10 * 2**30
    log_ship_interval_s: Annotated[
        Seconds, Meta(description="How long a prediction waits at most before it is shipped.")
    ] = 10.0
    log_ship_patience_s: Annotated[
        float,
        Meta(
            ge=0,
            description="How long shipping waits for a processor that nothing else needs, before "
            "it takes its share; `0`: it takes it at once.",
        ),
    ] = 60.0
    log_keep_days: Annotated[
        int,
        Meta(ge=0, description="How many days predictions are kept; `0`: for ever."),
    ] = 0
    log_hash_key: Annotated[
        str,
        Meta(
            description="The key that the log hashes columns with, at least 16 bytes; better in a "
            "file."
        ),
    ] = ""
    log_hash_key_file: Annotated[
        str, Meta(description="A file that holds this key; relative to `home`.")
    ] = ""
    spool_fsync_ms: Annotated[
        float,
        Meta(
            ge=0,
            description="How many milliseconds of predictions a power cut may lose; `0`: none, "
            "and every reply waits for the disk.",
        ),
    ] = 100.0
    who: Annotated[
        str, Meta(description="Who promotions are recorded for; default: user and host.")
    ] = ""
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(
            description="What the server's own log shows: `DEBUG` (also each call to MLflow and "
            "each load), `INFO`, `WARNING` or `ERROR`."
        ),
    ] = "INFO"
    access_log: Annotated[
        bool, Meta(description="Write a line of JSON for every request, without what it holds.")
    ] = False
    mlflow_log: Annotated[
        bool,
        Meta(
            description="Log predictions to MLflow too, as the app says of each model "
            "(`Model.mlflow_log`)."
        ),
    ] = True
    mlflow_batch_size: Annotated[
        int,
        Meta(
            ge=1,
            description="How many predictions a batch holds, for models that are logged in "
            "batches.",
        ),
    ] = 100
    mlflow_log_experiment: Annotated[
        str,
        Meta(description="The experiment that predictions are logged to; default: the app's."),
    ] = ""
    mlflow_max_waiting: Annotated[
        int,
        Meta(
            ge=1,
            description="How many predictions may wait for MLflow; what is more goes there as the "
            "figures of a minute, and is counted.",
        ),
    ] = 500_000
    models: Annotated[
        dict[str, ModelSettings],
        Meta(
            description="By an app's model: the registered `name` and the selector (`serve`) that "
            "are deployed, its fallback file (`fallback_path`), and what of its requests the log "
            "does not keep (`log_leave_out`, `log_hash`, `log_round`)."
        ),
    ] = msgspec.field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where the files of versions have to lie; empty for anywhere."""
        return self.prod_artifacts if self.environment == "prod" else ""

    @property
    def scheme(self) -> str:
        """What the server's own address begins with."""
        return "https" if self.ssl_certfile else "http"


def setting_descriptions() -> dict[str, tuple[str, Any]]:
    """Return each setting's description and default, in order, for the documentation."""
    hints = get_type_hints(Settings, include_extras=True)
    fields = msgspec.structs.fields(Settings)
    return {field.name: (_description(hints[field.name]), _default(field)) for field in fields}


def _description(hint: Any) -> str:
    metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
    return next((meta.description for meta in reversed(metas) if meta.description), "")


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory()
