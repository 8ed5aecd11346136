"""What users import, and nothing else."""

import importlib
import importlib.resources

import pytest

import hypern


def test_the_package_exports_the_contract():
    assert hypern.__all__ == [
        "Context",
        "HTTPException",
        "Hypern",
        "HypernError",
        "Request",
        "Response",
        "Router",
        "SSEComment",
        "SSEEvent",
        "StreamingResponse",
    ]


@pytest.mark.parametrize("module", ["", ".app", ".errors", ".forms", ".middleware", ".routing", ".sse", ".testing"])
def test_every_export_exists_and_they_are_sorted(module):
    imported = importlib.import_module(f"hypern{module}")
    assert sorted(imported.__all__) == imported.__all__
    assert [name for name in imported.__all__ if not hasattr(imported, name)] == []


def test_the_middleware_module_exports_the_contract():
    middleware = importlib.import_module("hypern.middleware")
    assert {"CompressionMiddleware", "CorsMiddleware"} <= set(middleware.__all__)


@pytest.mark.parametrize("name", hypern.__all__)
def test_every_public_class_says_that_it_is_hyperns(name):
    assert getattr(hypern, name).__module__.partition(".")[0] == "hypern"


def test_one_except_clause_catches_every_error_of_hyperns_own():
    assert issubclass(hypern.HTTPException, hypern.HypernError)


def test_the_package_is_typed():
    files = importlib.resources.files("hypern")
    assert files.joinpath("py.typed").is_file()
    assert files.joinpath("_hypern.pyi").is_file()
