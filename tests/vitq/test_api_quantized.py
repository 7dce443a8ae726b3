"""What `vitq.quantize` gives is saved, loaded in another process with the same logits, and exported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from own_things import CLASSES, SIDE, images, small_vit
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import vitq

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
OTHER_PROCESS = """
import sys, torch, vitq
torch.set_num_threads(1)
images, logits = torch.load(sys.argv[2])
loaded = vitq.load(sys.argv[1])
with torch.inference_mode():
    print(torch.equal(loaded(images), logits), loaded.size.packed_mb, len(loaded.layers()))
"""
GEOMETRY = {"img_size": SIDE, "patch_size": 8, "embed_dim": 32, "num_classes": len(CLASSES)}


def made_of(model: nn.Module, method: str = "minmax", bits: str = "W8A8", side: int = SIDE, **more):
    return vitq.quantize(model, method, bits=bits, data=images(8, side), **more)


def test_size_and_layers_are_told_where_gradients_are_off() -> None:
    made = made_of(small_vit(), "pmq", "W4A4", options={"frontier_points": 64})
    with torch.inference_mode():
        assert made.size.ratio > 1
    with torch.no_grad():
        assert made_of(small_vit()).layers()


@pytest.mark.slow
def test_another_process_gives_the_same_logits(tmp_path: Path) -> None:
    made = made_of(small_vit(), "repq_vit", "W4A4")
    file = made.save(tmp_path / "made.safetensors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        torch.save((images(4), made(images(4))), tmp_path / "logits.pt")
    torch.set_num_threads(threads)
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, file, tmp_path / "logits.pt"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["True", str(made.size.packed_mb), str(len(made.layers()))]


MODELS = {
    "a timm model": lambda: small_vit(),
    "with drop path and registers": lambda: small_vit(drop_path_rate=0.1, drop_rate=0.1, reg_tokens=2),
    "without class token": lambda: small_vit(class_token=False, global_pool="avg"),
    "a class of timm's": lambda: VisionTransformer(**GEOMETRY, depth=2, num_heads=4),
    "layer scale": lambda: VisionTransformer(**GEOMETRY, depth=1, num_heads=4, init_values=0.3, qkv_bias=False),
    "a swin": lambda: SwinTransformer(
        img_size=SIDE,
        patch_size=4,
        embed_dim=24,
        depths=(2, 1),
        num_heads=(2, 4),
        window_size=4,
        num_classes=len(CLASSES),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_file_of_a_timm_model_says_how_it_is_built(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = made_of(MODELS[name]())
    loaded = vitq.load(made.save(tmp_path / "made.safetensors"))
    assert torch.equal(made(images(3)), loaded(images(3)))
    assert (loaded.method, loaded.bits, loaded.options, loaded.exec) == (
        made.method, made.bits, made.options, made.exec,
    )  # fmt: skip
    assert loaded.size == made.size
    assert loaded.layers().rows == made.layers().rows
    assert loaded.preprocessing == made.preprocessing
    again = vitq.load(loaded.save(tmp_path / "again.safetensors"))
    assert torch.equal(made(images(3)), again(images(3)))


class Shifted(nn.Module):
    """A model around a ViT."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = VisionTransformer(**GEOMETRY, depth=1, num_heads=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        out: torch.Tensor = self.backbone(x) + 1
        return out


CANNOT = {
    "another activation": lambda: small_vit(act_layer=nn.ReLU),
    "another scale": lambda: _changed(small_vit(), lambda m: setattr(m.blocks[0].attn, "scale", 0.3)),
    "another class": lambda: Shifted(),
}


def _changed(model, change):
    change(model)
    return model


@pytest.mark.parametrize("name", CANNOT)
def test_what_no_file_can_describe_is_saved_without_and_fills_a_module(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, file = CANNOT[name], tmp_path / "made.safetensors"
    made = made_of(make())
    with pytest.raises(vitq.BadInputError, match="give architecture=") as caught:
        made.save(file)
    assert "\n" not in str(caught.value)
    assert not file.exists()
    made.save(file, architecture="skeleton")
    with pytest.raises(vitq.BadInputError, match=r"vitq\.load\(path, architecture=module\)"):
        vitq.load(file)
    loaded = vitq.load(file, architecture=make())
    assert torch.equal(made(images(3)), loaded(images(3)))
    assert loaded.size == made.size
    with pytest.raises(vitq.BadInputError, match="another architecture"):
        vitq.load(file, architecture=small_vit(depth=3))


def test_an_architecture_can_be_named_where_it_is_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = made_of(small_vit(act_layer=nn.GELU))
    args = {"img_size": SIDE, "depth": 2, "embed_dim": 48, "num_heads": 3}
    file = made.save(tmp_path / "a.safetensors", architecture={"timm": "vit_tiny_patch16_224", "args": args})
    assert torch.equal(vitq.load(file)(images(2)), made(images(2)))
    for wrong, says in (
        ("vit_small_patch16_224", "is not that of the model"),
        ("vit_tinny_patch16_224", "vit_tiny"),
        ({"tim": "x"}, "architecture is"),
    ):
        with pytest.raises(vitq.BadInputError, match=says):
            made.save(tmp_path / "b.safetensors", architecture=wrong)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(vitq.BadInputError) as caught:
        made_of(small_vit()).save(tmp_path / "file" / "made.safetensors")
    assert "\n" not in str(caught.value)


def test_a_quantized_model_is_no_model_to_quantize(tmp_path: Path) -> None:
    made = made_of(small_vit())
    with pytest.raises(vitq.BadInputError, match="is quantized already"):
        made_of(made)
    with pytest.raises(vitq.BadInputError, match="is quantized already"):
        made_of(made.save(tmp_path / "made.safetensors"))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_it_is_exported_and_held_to_itself(runtime: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip(runtime)
    made = made_of(small_vit().train())
    done = made.export(tmp_path / "made.onnx", runtime, batch=2)
    assert done.shape == (2, 3, SIDE, SIDE)
    assert done.exec == f"int8-kernel:{runtime}"
    assert done.difference < 1e-3 or "noise" in done.nearness
    assert done.operators["MatMul"]["int8"] > 0
    assert done.bytes == (tmp_path / "made.onnx").stat().st_size
    assert list(tmp_path.iterdir()) == [done.path]
    with pytest.raises(vitq.BadInputError, match="is there already"):
        made.export(done.path, runtime)
    made.export(done.path, runtime, batch=2, overwrite=True)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"runtime": "onnxruntim"}, "did you mean 'onnxruntime'"),
        ({"batch": 0}, "at least 1 image"),
        ({"path": "gone/out.onnx"}, "is no folder"),
    ],
)
def test_an_export_that_cannot_be_is_one_line(more, says, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(vitq.BadInputError, match=says):
        made_of(small_vit()).export(**({"path": "out.onnx"} | more))
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_form_is_unsupported(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    made = made_of(small_vit(), "i_vit", options={"epochs": 0})
    with pytest.raises(vitq.UnsupportedError, match="has no QDQ form"):
        made.export(tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_tables_are_text_and_rows() -> None:
    import json

    table = made_of(small_vit()).layers()
    assert str(table).splitlines()[0].split()[:3] == ["path", "kind", "macs"]
    assert table.render("md").startswith("| path")
    assert table.render("csv").startswith("path,kind,macs")
    assert json.loads(table.render("json"))[0] == dict(table[0])
    assert len(table[:2]) == 2
    with pytest.raises(vitq.BadInputError, match="format is 'xml'"):
        table.render("xml")
