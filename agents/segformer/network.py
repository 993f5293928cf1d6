"""transformers' SegFormer, also where torchvision does not fit torch (`..torchvision_operators`)."""

from __future__ import annotations

from ..torchvision_operators import declare_missing_operators

declare_missing_operators()

from transformers import SegformerConfig, SegformerForSemanticSegmentation  # noqa: E402

__all__ = ["SegformerConfig", "SegformerForSemanticSegmentation"]
