"""The walls between rooms, held by reading every import: who may import whom, and what a module must say of itself.

The table is that of "Rooms and what they may import" on the architecture page, and in CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from sources import HOMES, NOT_SHIPPED, ROOMS, ROOT, Import, Module, imports, modules, private_uses

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAY_IMPORT = {
    "vitq": {"vitq"},
    "methods": {"vitq", "methods"},
    "datasets": {"vitq", "datasets"},
    "tasks": {"vitq", "tasks", "datasets"},
    "benchmarks": {"vitq", *ROOMS},
    "reports": {"vitq", "reports"},
}
"""Rooms of ours that a room may import; `vitq` is `src/vitq`, which may import the others inside functions."""
MM = {"mmdet", "mmseg", "mmengine", "mmcv", "mmpretrain"}
HEAVY = {"torch", "torchvision", "timm", "matplotlib", "ray", "onnx", "onnxruntime", "openvino", "tvm", *MM}
MAY_USE = {
    "vitq": {"torch", "torchvision"},
    "methods": {"torch"},
    "datasets": {"torch", "torchvision", "timm", "mmengine"},
    "tasks": {"torch", "torchvision", "timm", *MM},
    "benchmarks": HEAVY,
    "reports": {"matplotlib"},
}
"""Heavy packages of others that a room may import; `methods/architectures` may import those whose models it knows."""
STANDS_ON = {"psaq_vit_v2": "psaq_vit"}
"""The one method whose package builds on another's."""
EVERY = modules()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
METHODS = sorted(path.parent.name for path in HOMES["methods"].glob("*/card.yaml"))


def told(found: list[tuple[Module, Import]]) -> list[str]:
    return [f"{module.place}:{each.line} imports {each.name}" for module, each in found]


def every_import(*rooms: str) -> list[tuple[Module, Import]]:
    return [(m, each) for m in EVERY if not rooms or m.room in rooms for each in imports(m.tree)]


def test_the_tree_is_read() -> None:
    assert {module.room for module in EVERY} == set(HOMES)
    assert len(EVERY) > 100
    assert {each.room for _, each in every_import("benchmarks")} >= set(ROOMS)
    assert len(METHODS) >= 8


def test_imports_are_found_wherever_they_stand() -> None:
    text = """
import vitq.tasks.names as n
from vitq import reports, errors
if TYPE_CHECKING:
    from vitq.methods.base import Method
class C:
    def f(self):
        from vitq.datasets import registry
        import_module(f"vitq.benchmarks.{x}")
"""
    assert [each.room for each in imports(ast.parse(text)) if each.typing] == ["methods"]
    found = {(each.room, each.lazy) for each in imports(ast.parse(text))}
    lazy = {("datasets", True), ("benchmarks", True)}
    assert found == {("tasks", False), ("reports", False), ("vitq", False), ("methods", False), *lazy}


def test_a_room_imports_no_room_but_those_it_may() -> None:
    found = [
        (module, each)
        for module, each in every_import()
        if each.room and each.room not in MAY_IMPORT[module.room] and not _offered(module, each)
    ]
    assert told(found) == []


def _offered(module: Module, each: Import) -> bool:
    """`vitq` brings what it offers when it is asked for; its Python interface names the types of what it hands on."""
    return module.room == "vitq" and (each.lazy or (each.typing and module.parts[0] == "api"))


def test_no_import_is_relative() -> None:
    assert told([(module, each) for module, each in every_import() if each.name.startswith(".")]) == []


def test_heavy_packages_stay_in_the_rooms_that_need_them() -> None:
    found = [
        (module, each)
        for module, each in every_import()
        if each.library in HEAVY - MAY_USE[module.room] and not _adapter(module, each)
    ]
    assert told(found) == []


def test_hugging_faces_package_is_imported_in_one_place_and_only_when_asked_for() -> None:
    """It bears the name of our folder `datasets`: whoever else wrote that name would mean ours."""
    found = [(module, each) for module, each in every_import() if each.library in ROOMS]
    assert [(module.place, each.name, each.lazy) for module, each in found] == [
        ("datasets/hugging_face.py", "datasets", True)
    ]


def _adapter(module: Module, each: Import) -> bool:
    """Libraries of models are known in `methods/architectures` alone, mm's only inside functions, and in `vitq.mm`."""
    if (module.room, module.parts[0]) == ("vitq", "mm"):
        return each.library in MM and each.lazy
    home = (module.room, module.parts[0]) == ("methods", "architectures")
    return home and (each.library == "timm" or (each.library in MM and each.lazy))


def test_a_method_stands_on_no_other_method() -> None:
    found = []
    for module, each in every_import("methods"):
        own = module.parts[0]
        of = next((name for name in METHODS if f"{each.name}.".startswith(f"vitq.methods.{name}.")), own)
        if of not in (own, STANDS_ON.get(own)):
            found.append((module, each))
    assert told(found) == []


def test_no_private_name_is_taken_from_another_module() -> None:
    text = "from vitq.a import _x\nfrom vitq.b import c\nc._y\nc.__doc__\n"
    assert private_uses(ast.parse(text)) == [(1, "vitq.a._x"), (3, "c._y")]
    assert [f"{m.place}:{line} takes {name}" for m in EVERY for line, name in private_uses(m.tree)] == []


def test_every_module_says_in_its_first_line_what_is_in_it() -> None:
    short = [module.place for module in EVERY if len((ast.get_docstring(module.tree) or "").partition("\n")[0]) < 15]
    assert short == []


def test_every_folder_of_modules_is_a_package_that_is_shipped() -> None:
    shipped = PYPROJECT["tool"]["setuptools"]["packages"]
    folders = {module.path.parent for module in EVERY} - {NOT_SHIPPED}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
    assert sorted(shipped) == sorted({_package(folder) for folder in folders} | {"vitq"})
    assert len(shipped) == len(set(shipped))


def _package(folder: Path) -> str:
    room, home = next((room, home) for room, home in HOMES.items() if folder.is_relative_to(home))
    return ".".join(["vitq", *([] if room == "vitq" else [room]), *folder.relative_to(home).parts])


BLOCKED = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocked())
for name in {modules!r}:
    importlib.import_module(name)
print(*(name for name in sys.modules if name.split(".")[:1] == ["vitq"]))
"""


@pytest.mark.parametrize("room", ["vitq", "reports"])
def test_what_needs_no_torch_imports_none(room: str) -> None:
    """All modules of a room in a process where torch and its kin cannot be imported; no other room comes with them."""
    # operators stand in for mmcv's, which are torch's, and a quantized model is a module of torch
    but = [("__main__.py",), ("mm", "operators.py"), ("api", "quantized.py")]
    wanted = [_dotted(module) for module in EVERY if module.room == room and module.parts not in but]
    assert len(wanted) > 10
    code = BLOCKED.format(names=["torch", "torchvision", "timm"], modules=wanted)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    rooms = {name.split(".")[1] for name in done.stdout.split() if "." in name} & set(ROOMS)
    assert rooms <= {room}


def _dotted(module: Module) -> str:
    parts = [part.removesuffix(".py") for part in module.parts if part != "__init__.py"]
    return ".".join(["vitq", *([] if module.room == "vitq" else [module.room]), *parts])
