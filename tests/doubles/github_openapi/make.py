"""Cut the operations that quant_action uses out of GitHub's OpenAPI description.

    npm pack @octokit/openapi@23.0.2 && python tests/doubles/github_openapi/make.py octokit-openapi-23.0.2.tgz

Kept of each: its path, what a request may hold, and the status and the example of a success. References are resolved and prose is dropped.
The description is MIT-licensed (LICENSE, from the same package).
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

VERSION = "23.0.2"
OPERATIONS = (
    "issues/list-comments",
    "issues/create-comment",
    "issues/update-comment",
    "issues/delete-comment",
    "checks/create",
    "checks/update",
    "checks/list-for-ref",
    "pulls/get",
    "pulls/list",
    "repos/get-collaborator-permission-level",
)
PROSE = {"description", "example", "examples", "externalDocs", "title"}


def cut(document: dict[str, Any]) -> dict[str, Any]:
    """Operation id -> what the double checks and answers."""
    found = {
        operation["operationId"]: (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if isinstance(operation, dict) and operation.get("operationId") in OPERATIONS
    }
    return {name: _operation(document, *found[name]) for name in OPERATIONS}


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    status = min(status for status in operation["responses"] if status.startswith("2"))
    content = operation["responses"][status].get("content", {}).get("application/json", {})
    examples = [_resolve(document, example)["value"] for example in content.get("examples", {}).values()]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    parameters = [_resolve(document, parameter) for parameter in operation["parameters"]]
    return {
        "method": method.upper(),
        "path": path,
        "parameters": [
            {
                "name": given["name"],
                "in": given["in"],
                "required": given.get("required", False),
                "schema": _plain(document, given["schema"]),
            }
            for given in parameters
        ],
        "body": _plain(document, body) if body else None,
        "status": int(status),
        "example": _first(examples[0]) if examples else None,
    }


def _first(example: Any) -> Any:
    """One entry of a list is enough to show what the others look like."""
    if isinstance(example, list):
        return example[:1]
    if isinstance(example, dict) and "check_runs" in example:
        return example | {"check_runs": example["check_runs"][:1]}
    return example


def _resolve(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in value:
        target: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def _plain(document: dict[str, Any], schema: Any) -> Any:
    """A JSON Schema without references and prose; the names of properties are not prose."""
    if isinstance(schema, list):
        return [_plain(document, entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    schema = _resolve(document, schema)
    plain = {key: _plain(document, entry) for key, entry in schema.items() if key not in PROSE and not key.startswith("x-")}
    if "properties" in schema:
        plain["properties"] = {name: _plain(document, entry) for name, entry in schema["properties"].items()}
    return plain


def main(package: str) -> None:
    with tarfile.open(package) as archive:
        versions, description = (archive.extractfile(f"package/{name}") for name in ("package.json", "generated/api.github.com.json"))
        assert versions is not None
        assert description is not None
        version = json.load(versions)["version"]
        assert version == VERSION, f"this is made of {VERSION}, not of {version}"
        operations = cut(json.load(description))
    text = json.dumps({"package": f"@octokit/openapi {VERSION}", "operations": operations}, indent=1, ensure_ascii=False)
    (Path(__file__).parent / "operations.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
