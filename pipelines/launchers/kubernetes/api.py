"""The few calls of Kubernetes' API that the engine makes, through the official client.

Objects go in and come out as plain mappings: what a newer server adds to them is no error. The
client is imported at the first call: definitions load without it.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assets.launcher import EngineError, EngineUnavailable
from olmo_core.errors import ConfigError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Object = dict[str, Any]

CALL_SECONDS = (5.0, 30.0)  # to connect, to answer
PAGE = 500  # objects of a list that come at once
PAUSES_SECONDS = (1.0, 2.0, 4.0)  # before what has not been answered is sent again

API_VERSIONS = {
    "Job": "batch/v1",
    "JobSet": "jobset.x-k8s.io/v1alpha2",
    "TrainJob": "trainer.kubeflow.org/v1alpha1",
    "TrainingRuntime": "trainer.kubeflow.org/v1alpha1",
    "Pod": "v1",
    "Event": "v1",
}

_ADVICE = {
    401: "; the credentials are not accepted",
    403: "; what the orchestrator must be allowed stands in docs/kubernetes.md",
    404: "; is the namespace right? Is JobSet installed; for kind: trainjob, Kubeflow Trainer?",
}


class Refused(EngineError):
    """An answer that will be the same the next time."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Gone(Refused):
    """There is no object of this name."""


@dataclass(kw_only=True)
class Api:
    """The API server of a namespace; where it does not answer, a call may have been carried out."""

    namespace: str
    context: str | None = None  # of the kubeconfig
    pauses_seconds: Sequence[float] = PAUSES_SECONDS
    _client: "ApiClient | None" = field(default=None, repr=False)

    def list(self, kind: str, **selectors: str) -> list[Object]:
        """Return all objects of a kind that the selectors choose (`labelSelector`, …)."""
        found: list[Object] = []
        token = ""
        while True:
            query = {**selectors, "limit": str(PAGE), **({"continue": token} if token else {})}
            try:
                page = self._call("GET", kind, query=query)
            except Refused as error:
                if error.status != 410 or not token:
                    raise
                found, token = [], ""  # the list was too old to be continued: from the beginning
                continue
            found += page.get("items") or []
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return found

    def get(self, kind: str, name: str) -> Object | None:
        """Return one object; None if there is none of this name."""
        try:
            return self._patiently("GET", kind, name)
        except Gone:
            return None

    def create(self, manifest: Mapping[str, Any]) -> Object | None:
        """Create an object and return it; None if there is one of this name already.

        Names are made of a run folder's key and attempt, so to ask again does no harm.
        """
        try:
            return self._patiently("POST", str(manifest["kind"]), body=manifest)
        except Refused as error:
            if error.status == 409:
                return None
            raise

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, and first what belongs to it; no error if it is gone."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        with contextlib.suppress(Gone):
            self._patiently("DELETE", kind, name, body=body)

    def delete_pods(self, selector: str, grace_seconds: int) -> None:
        """Delete pods, giving each this long from the order to end to the kill."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": grace_seconds}
        self._patiently("DELETE", "Pod", query={"labelSelector": selector}, body=body)

    def _patiently(self, method: str, kind: str, name: str = "", **arguments: Any) -> Object:
        """Make a call that may be repeated, with a few pauses before its failure is believed."""
        for pause in self.pauses_seconds:
            try:
                return self._call(method, kind, name, **arguments)
            except EngineUnavailable:
                time.sleep(pause)
        return self._call(method, kind, name, **arguments)

    def _call(
        self,
        method: str,
        kind: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Object:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        what = f"Kubernetes, namespace {self.namespace}: {method} {kind} {name}".rstrip()
        version = API_VERSIONS[kind]
        path = f"/{'apis' if '/' in version else 'api'}/{version}/namespaces/{self.namespace}"
        path += f"/{kind.lower()}s/{name}".rstrip("/")
        try:
            self._client = client = self._client or _connected(self.context)
            prepared = client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=dict(body) if body else None,
                auth_settings=["BearerToken"],
            )
            answer = client.call_api(*prepared, _request_timeout=CALL_SECONDS)
            answer.read()
            found: Any = client.response_deserialize(answer, {"2XX": "object"}).data
            return found or {}
        except ApiException as error:
            status = int(error.status or 0)
            said, about = _status(error.body)
            message = f"{what}: {status} {said or error.reason or ''}"
            if status in (0, 408, 429) or status >= 500:
                raise EngineUnavailable(message) from None
            if status == 404 and about == name != "":
                raise Gone(message, status=status) from None
            raise Refused(message + _ADVICE.get(status, ""), status=status) from None
        except (HTTPError, OSError) as error:
            raise EngineUnavailable(f"{what}: no answer: {error}") from None


def _connected(context: str | None) -> "ApiClient":
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        if context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            # The client itself looks at the variable once, when it is imported.
            file = os.environ.get("KUBECONFIG")
            config.load_kube_config(file, context=context, client_configuration=configuration)
    except config.ConfigException as error:
        where = f", context {context}" if context else ""
        raise ConfigError(
            f"kubernetes: no way to the API server (kubeconfig{where}): {error}; "
            "kubectl must work as the same user, or this must run in a pod"
        ) from None
    configuration.retries = False  # what is sent again is decided here
    return client.ApiClient(configuration)


def _status(body: str | None) -> tuple[str, str]:
    """Return what the server says, and of which object; a proxy may send a page instead."""
    with contextlib.suppress(ValueError, AttributeError):  # no JSON, or no mapping
        status = json.loads(body or "")
        details = status.get("details") or {}
        return str(status.get("message") or ""), str(details.get("name") or "")
    return "", ""
