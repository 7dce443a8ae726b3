"""I-ViT's network: built from the roles of a ViT, DeiT or Swin, it stands in its place and is called as it is.

With a classifier it gives logits. Without one it is a backbone, whose `forward_features` gives the real values of the
features that its last norm leaves on an INT8 grid; a backbone of several levels gives the real values of each level's
integers. One network serves both forms: `integer` replaces its nodes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.roles import Roles, roles_of
from vitq.methods.i_vit.blocks import Block, Merging, Steps, linear_of, norm_of
from vitq.methods.i_vit.drop_path import depth_rates
from vitq.methods.i_vit.ends import Input, Reals
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.layernorm import LayerNorm
from vitq.methods.i_vit.linear import Linear
from vitq.methods.i_vit.pool import Pool
from vitq.methods.i_vit.served import patch_projection, refuse_unserved
from vitq.methods.i_vit.sums import AddConstant
from vitq.methods.i_vit.tokens import ClassToken, Regrid, Resized, Whole
from vitq.methods.i_vit.tree import Flow, each, map_size


class _Missing(UnsupportedError, AttributeError):
    """What a model asks of its backbone and I-ViT's network does not have."""


class Network(Steps):
    """The trainable form of a transformer, on its parameters; UnsupportedError where I-ViT has no form of it.

    `drop_path` is the rate at the last block, in training only.
    """

    input: nn.Module
    output: nn.Module

    def __init__(self, part: nn.Module, forms: Forms, drop_path: float = 0.0) -> None:
        known = roles_of(part)
        refuse_unserved(known)
        super().__init__("")
        self.forms, self.layout, self.class_tokens = forms, known.layout, known.class_tokens
        self.classifies, self.pooling = known.ends.head is not None, known.ends.pooling
        self.features_alone = bool(known.ends.after_pooling)
        projection = patch_projection(known)
        self.input, self.patch = Input(forms, projection.weight.device), projection.kernel_size
        self._add_embedding(known, projection)
        self.trunk = self._add_trunk(known, drop_path)
        self.levels = {level.after: f"level{i}" for i, level in enumerate(known.levels)}
        self._add_levels(known)
        self._add_ends(known, projection.weight.device)
        if not self.levels:
            self.output = Reals(forms)

    def _add_embedding(self, known: Roles, projection: nn.Conv2d) -> None:
        at, forms, device = known.embedding, self.forms, projection.weight.device
        assert at.projection is not None
        width = forms.residual if at.norm is None else forms.merged
        self.add("projection", at.projection, Linear(projection, width, forms))
        if at.norm is not None:
            self.add("embedding_norm", at.norm, LayerNorm(norm_of(known, at.norm), forms.residual, forms))
        if self.layout == "map" and not forms.paper("residual"):
            self.add("regrid", "regrid", Regrid(forms.residual, forms, device))
        if at.class_token is not None and at.tokens is not None:
            self.add("tokens", at.tokens, ClassToken(known.model.get_parameter(at.class_token), forms))
        if at.positions is not None and at.position_add is not None:
            positions = known.model.get_parameter(at.positions)
            arrange = Whole() if at.resize is None else Resized(at.resize)
            self.add("position_add", at.position_add, AddConstant(positions, arrange, forms.residual, forms))

    def _add_trunk(self, known: Roles, drop_path: float) -> list[str]:
        """Blocks and the mergings between them; their paths in forward order."""
        order = []
        for block, rate in zip(known.blocks, depth_rates(drop_path, len(known.blocks)), strict=True):
            for merging in known.mergings:
                if merging.before == block.path:
                    self.put(merging.path, Merging(known, merging, self.forms))
                    order.append(merging.path)
            self.put(block.path, Block(known, block, self.forms, rate))
            order.append(block.path)
        return order

    def _add_levels(self, known: Roles) -> None:
        """The norm of each level, which leaves INT8 codes, and its real values; without a norm those of the stream."""
        for level in known.levels:
            step = self.levels[level.after]
            if level.norm is not None:
                norm = LayerNorm(norm_of(known, level.norm), self.forms.activation, self.forms)
                self.add(step, level.norm, norm)
            self.add(f"{step} out", step, Reals(self.forms))

    def _add_ends(self, known: Roles, device: torch.device) -> None:
        """In the paper's arithmetic the classifier's accumulators get one INT32 scale, so that they can be compared."""
        ends, forms = known.ends, self.forms
        for path in ends.norms:
            if path not in ends.after_pooling:
                self.add("norm", path, LayerNorm(norm_of(known, path), forms.activation, forms))
        if ends.head is None:
            return
        if self.layout == "map":
            self.add("pool", ends.pool or "pool", Pool(forms, device))
        width = forms.residual if forms.paper("residual") else None
        self.add("head", ends.head, Linear(linear_of(known, ends.head), width, forms))

    def run(self, x: Flow) -> Flow:
        """From the quantized image to logits or features; integers to integers in the integer form.

        Of tokens, the last norm is computed for the class token alone where the classifier reads no other.
        """
        x, _ = self._embed(x)
        for path in self.trunk:
            x = self.get_submodule(path)(x)
        if self.classifies and self.layout == "tokens":
            x = each(x, lambda t: t[:, 0])
        return self.do("head", self.do("pool", self.do("norm", x)))

    def run_levels(self, x: Flow) -> list[Flow]:
        """From the quantized image to the maps [B, H, W, C] of all levels; integers to integers in the integer form."""
        x, size = self._embed(x)
        found = []
        for path in self.trunk:
            x = self.get_submodule(path)(x)
            if path in self.levels:
                found.append(self._map(self.do(self.levels[path], x), size))
        return found

    def _embed(self, x: Flow) -> tuple[Flow, tuple[int, int]]:
        """The quantized image to what enters the first block, and the size of its map of patches.

        Images are padded at the bottom and on the right to whole patches, as libraries do that take any size.
        """
        x = self.do("projection", each(x, self._padded))
        x = self.do("regrid", self.do("embedding_norm", x))
        size = map_size(x)
        if self.layout == "tokens":
            x = each(x, lambda t: t.flatten(1, 2))
        return self.do("position_add", self.do("tokens", x), at=size), size

    def _padded(self, image: Tensor) -> Tensor:
        below, right = (-side % patch for side, patch in zip(image.shape[2:], self.patch, strict=True))
        return F.pad(image, (0, right, 0, below)) if below or right else image

    def _map(self, x: Flow, size: tuple[int, int]) -> Flow:
        """[B, N, C] to [B, H, W, C] without class tokens; a map as it is."""
        if self.layout == "map":
            return x
        return each(x, lambda t: t[:, self.class_tokens :].reshape(len(t), *size, -1))

    def _reals(self, images: Tensor) -> Tensor:
        """In full precision, which codes need."""
        with torch.autocast(images.device.type, enabled=False):
            reals: Tensor = self.output(self.run(self.input(images.float())))
        return reals

    def _real_levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Each level's real values [B, C, H, W], in full precision."""
        with torch.autocast(images.device.type, enabled=False):
            found = self.run_levels(self.input(images.float()))
            steps = [f"{self.levels[path]} out" for path in self.trunk if path in self.levels]
            reals: list[Tensor] = [self.do(step, x) for step, x in zip(steps, found, strict=True)]
        return tuple(x.permute(0, 3, 1, 2).contiguous() for x in reals)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Normalized images [B, 3, H, W] to logits [B, classes], or to the maps [B, C, H, W] of a backbone's levels.

        Without a classifier to the pooled features [B, C], in floating point, since nothing of the network follows;
        UnsupportedError for a pooling that is neither the class token nor the mean of a map.
        """
        if self.levels:
            return self._real_levels(images)
        reals = self._reals(images)
        if self.classifies or (self.pooling is None and not self.features_alone):
            return reals
        if self.pooling == "class_token" and not self.features_alone:
            return reals[:, 0]
        if self.pooling == "mean" and self.layout == "map":
            return reals.mean((1, 2))
        raise UnsupportedError("I-ViT's network does not pool as this backbone does: call its forward_features")

    def forward_features(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] to features, tokens [B, N, C] or a map [B, H', W', C], as the model lays them.

        UnsupportedError for a network with a classifier, in which nothing else has a grid.
        """
        if self.levels:
            raise UnsupportedError("this model calls forward_features of a backbone of several levels: let it call it")
        if self.classifies:
            raise UnsupportedError(
                "this model calls forward_features of a backbone with a classifier, of which I-ViT serves the logits "
                "alone: make the backbone without a classifier (num_classes 0)"
            )
        return self._reals(images)

    def __getattr__(self, name: str) -> Any:
        """A module or parameter; what else a model asks of its backbone is UnsupportedError and AttributeError both."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise _Missing(
                f"I-ViT's network has no {name!r}, which this model asks of its backbone: it can be called, or its "
                "forward_features"
            ) from None

    def seen_size(self) -> tuple[int, ...]:
        """[C, H, W] of the images that the trainable form saw last; MethodInputError where it saw none."""
        if not isinstance(self.input, Input) or not self.input.size:
            raise MethodInputError("the forward pass never called the part that is quantized: give another scope")
        return self.input.size

    @torch.no_grad()
    def note_scales(self, size: tuple[int, ...] = ()) -> None:
        """Let every node note the scales that it is given, by a pass over one input of zeros, in eval mode.

        `size` is the input's [C, H, W], by default that of the images that the network saw last, whatever model it
        stands in; MethodInputError where it saw none.
        """
        training, size = self.training, size or self.seen_size()
        zeros = torch.zeros(1, *size, device=next(self.parameters()).device)
        self.eval()
        self._real_levels(zeros) if self.levels else self._reals(zeros)
        self.train(training)
