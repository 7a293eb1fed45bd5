"""The API's verbs over the store: what a create, update, patch, delete, list or watch does and answers."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.support.apiserver import patches, refusals, resources, schemas, views
from tests.support.apiserver.refusals import Place, Resource
from tests.support.apiserver.store import Object, Store

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/json-patch+json": patches.json_patch,
    "application/merge-patch+json": patches.merge_patch,
    "application/strategic-merge-patch+json": patches.strategic_merge,
}
_SYSTEM = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


class Objects:
    """Everything that the API server holds."""

    def __init__(self) -> None:
        self.store = Store()
        self._resources = {(r.group, r.version, r.plural): r for r in resources.BUILT_IN}
        for name in ("default", "kube-node-lease", "kube-public", "kube-system"):
            self.create(Place(resources.NAMESPACES), {"metadata": {"name": name}})

    def place(self, path: str) -> Place:
        """Read a path, or refuse it with 404."""
        root, *parts = path.strip("/").split("/")
        group = parts.pop(0) if root == "apis" and parts else ""
        if root not in ("api", "apis") or not parts:
            raise refusals.no_such_path()
        version, *parts = parts
        namespace = ""
        if parts[:1] == ["namespaces"] and len(parts) > 2 and parts[2] not in ("status", "finalize"):
            namespace, parts = parts[1], parts[2:]
        plural, name, subresource, *more = [*parts, "", "", ""]
        resource = self._resources.get((group, version, plural))
        if resource is None or any(more) or (namespace and not resource.is_namespaced):
            raise refusals.no_such_path()
        if subresource and not (subresource == "status" and resource.has_status):
            raise refusals.no_such_path()
        return Place(resource, namespace, name, subresource)

    def resource(self, group: str, version: str, kind: str) -> Resource:
        return next(
            resource
            for resource in self._resources.values()
            if (resource.group, resource.version, resource.kind) == (group, version, kind)
        )

    def get(self, place: Place, resource_version: str = "") -> Object:
        views.refuse_future(self.store, resource_version)
        found = self.store.find(place.resource, place.key, from_cache=resource_version == "0")
        if found is None:
            raise refusals.not_found(place.resource, place.name)
        return found

    def create(self, place: Place, body: Any) -> Object:
        resource = place.resource
        new = self._decoded(place, body)
        metadata = dict(new["metadata"])
        with self.store.lock:
            if resource.is_namespaced and not self.store.find(resources.NAMESPACES, ("", place.namespace)):
                raise refusals.not_found(resources.NAMESPACES, place.namespace)
            name = metadata.get("name") or self._generated(place, metadata.get("generateName", ""))
            resources.check_name(resource, name)
            if metadata.get("resourceVersion"):
                raise refusals.Refusal(500, "", "resourceVersion should not be set on objects to be created")
            if self.store.find(resource, (place.namespace, name)):
                raise refusals.already_exists(resource, name)
            metadata |= {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": _now()}
            if resource.is_namespaced:
                metadata["namespace"] = place.namespace
            if resource.is_custom:
                metadata["generation"] = 1
            new = self._prepared(resource, {**new, "metadata": metadata}, None)
            self._validate(resource, name, new)
            stored = self.store.put(resource, (place.namespace, name), new)
            if resource is resources.DEFINITIONS:
                self._define(stored)
            return stored

    def _generated(self, place: Place, prefix: str) -> str:
        if not prefix:
            fault = (
                "metadata.name",
                "FieldValueRequired",
                "Required value: name or generateName",
            )
            raise refusals.invalid(place.resource, "", [fault])
        return prefix + "".join(random.choices(_SUFFIX, k=5))

    def _define(self, definition: Object) -> None:
        for resource in resources.defined(definition):
            self._resources[(resource.group, resource.version, resource.plural)] = resource

    def replace(self, place: Place, body: Any) -> Object:
        with self.store.lock:
            return self._update(place, self.get(place), self._decoded(place, body))

    def patch(self, place: Place, content_type: str, patch: Any) -> Object:
        apply = _PATCHES.get(content_type)
        if apply is None or (place.resource.is_custom and apply is patches.strategic_merge):
            raise refusals.unsupported_media_type(list(_PATCHES))
        with self.store.lock:
            present = self.get(place)
            try:
                changed = apply(present, patch)
            except patches.PatchFailed as error:
                raise refusals.patch_failed() from error
            except patches.MalformedPatch as error:
                raise refusals.bad_request(str(error)) from error
            return self._update(place, present, self._decoded(place, changed))

    def _update(self, place: Place, present: Object, new: Object) -> Object:
        resource, name = place.resource, place.name
        wanted, old = new["metadata"], present["metadata"]
        if wanted.get("name") != name:
            told = (
                f"the name of the object ({wanted.get('name')}) does not match the name on the URL ({name})"
            )
            raise refusals.bad_request(told)
        self._check_versions(resource, name, wanted, old)
        kept = {key: old[key] for key in _SYSTEM if key in old}
        metadata = {**wanted, **kept, "resourceVersion": old["resourceVersion"]}
        if metadata.get("managedFields") == [{}]:
            del metadata["managedFields"]  # which is how they are let go
        if resource.is_namespaced:
            metadata["namespace"] = place.namespace
        new = self._prepared(resource, {**new, "metadata": metadata}, present, place.subresource)
        self._validate(resource, name, new, present)
        if patches.same(new, present):
            return present
        if resource.is_custom and not patches.same(_spec(new), _spec(present)):
            new["metadata"] = {**new["metadata"], "generation": old.get("generation", 0) + 1}
        stored = self.store.put(resource, place.key, new)
        if resource is resources.DEFINITIONS:
            self._define(stored)
        return stored

    def _check_versions(
        self, resource: Resource, name: str, wanted: Mapping[str, Any], old: Mapping[str, Any]
    ) -> None:
        if wanted.get("uid") not in (None, old["uid"]):
            told = (
                f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {old['uid']}"
            )
            raise refusals.conflict(resource, name, told)
        version = wanted.get("resourceVersion")
        if version is None and resource.is_custom:
            fault = "Invalid value: 0x0: must be specified for an update"
            raise refusals.invalid(resource, name, [("metadata.resourceVersion", "FieldValueInvalid", fault)])
        if version not in (None, old["resourceVersion"]):
            raise refusals.conflict(resource, name)

    def _decoded(self, place: Place, body: Any) -> Object:
        """Check what holds for every object that is sent."""
        resource = place.resource
        if not isinstance(body, dict):
            raise refusals.bad_request("the object provided is unrecognized")
        kind, version = body.get("kind"), body.get("apiVersion")
        if (kind or resource.is_custom) and (kind, version) != (resource.kind, resource.api_version):
            raise refusals.bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}): {version}/{kind}"
            )
        metadata = resources.checked_metadata(body.get("metadata") or {})
        if metadata.get("namespace", place.namespace) != place.namespace:
            raise refusals.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        typed = {"kind": resource.kind, "apiVersion": resource.api_version}
        return {**body, **typed, "metadata": metadata}

    def _prepared(
        self, resource: Resource, new: Object, present: Object | None, subresource: str = ""
    ) -> Object:
        """Keep what this way of writing may not change, and drop what the schema does not know."""
        if resource.schema is not None:
            known = schemas.pruned(new, resource.schema, present)
            new = {**known, **{key: new[key] for key in ("kind", "apiVersion", "metadata")}}
        if not resource.has_status:
            return new
        if present is None:
            fresh = {"status": {"phase": "Pending"}} if resource is resources.PODS else {}
            return {key: value for key, value in new.items() if key != "status"} | fresh
        if subresource == "status":
            # The status of built-in kinds takes metadata along; Multus lives on it.
            metadata = present["metadata"] if resource.is_custom else new["metadata"]
            status = {"status": new["status"]} if "status" in new else {}
            return {**present, "metadata": metadata} | status
        status = {"status": present["status"]} if "status" in present else {}
        return {key: value for key, value in new.items() if key != "status"} | status

    def _validate(self, resource: Resource, name: str, new: Object, present: Object | None = None) -> None:
        if resource.schema is not None:
            content = {key: value for key, value in new.items() if key != "metadata"}
            schema = {**resource.schema, "required": resource.schema.get("required", [])}
            found = list(schemas.faults(content, schema, known=present))
            if found:
                raise refusals.invalid(resource, name, found)
        if resource is resources.PODS:
            self._validate_pod(name, new, present)

    def _validate_pod(self, name: str, new: Object, present: Object | None) -> None:
        spec = new.get("spec") or {}
        if not spec.get("containers"):
            raise refusals.invalid(
                resources.PODS, name, [("spec.containers", "FieldValueRequired", "Required value")]
            )
        if present and not patches.same(_without_images(spec), _without_images(present["spec"])):
            told = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
            raise refusals.invalid(resources.PODS, name, [("spec", "FieldValueForbidden", told)])

    def delete(self, place: Place, options: Any) -> Object:
        """Delete; a pod that runs on a node is only marked, until it is deleted with grace period 0."""
        with self.store.lock:
            present = self.get(place)
            metadata = present["metadata"]
            for field, words in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
                wanted = ((options or {}).get("preconditions") or {}).get(field)
                if wanted not in (None, metadata[field]):
                    told = f"Precondition failed: {words} in precondition: {wanted}, "
                    raise refusals.conflict(
                        place.resource, place.name, told + f"{words} in object meta: {metadata[field]}"
                    )
            if place.resource is resources.PODS and present["spec"].get("nodeName"):
                grace = (options or {}).get("gracePeriodSeconds", 30)
                if grace:
                    return self._marked(place, present, grace)
            gone = self.store.remove(place.resource, place.key)
            if place.resource is resources.DEFINITIONS:
                for resource in resources.defined(gone):
                    self._resources.pop((resource.group, resource.version, resource.plural), None)
        return gone if place.resource is resources.PODS else _success(place.resource, gone)

    def _marked(self, place: Place, present: Object, grace: int) -> Object:
        if "deletionTimestamp" in present["metadata"]:
            return present
        mark = {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": grace}
        return self.store.put(
            place.resource, place.key, {**present, "metadata": {**present["metadata"], **mark}}
        )


def _success(resource: Resource, gone: Object) -> Object:
    details = {"name": gone["metadata"]["name"], "kind": resource.plural, "uid": gone["metadata"]["uid"]}
    if resource.group:
        details["group"] = resource.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _spec(item: Object) -> Object:
    return {key: value for key, value in item.items() if key not in ("metadata", "status")}


def _without_images(spec: Object) -> Object:
    containers = [{**container, "image": ""} for container in spec.get("containers", ())]
    return {**spec, "containers": containers}


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
