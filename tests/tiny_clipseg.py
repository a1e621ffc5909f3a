"""A tiny CLIPSeg with random weights, in memory and in the on-disk format of the real one. For tests only.

Same architecture, file names and special tokens as the published model, but a few thousand parameters, so that it is
made, written and run in milliseconds. What it selects means nothing.

    processor, model = tiny_clipseg.make(tmp_path)          # as the loader of CLIPSEG_MODEL gives them
    folder = tiny_clipseg.write(tmp_path / "my model")      # a folder that `from_pretrained` reads
"""

from __future__ import annotations

from pathlib import Path

import clip_tokenizer as tokenizer
import torch

PATCH = 8
IMAGE_SIZE = 64  # side of the square that the image processor makes; the real one's is 352
VISION_LAYERS = 4
EXTRACT_LAYERS = (0, 1, 2)  # hidden state 3 is the last one read, so the fourth vision layer is never needed
MAX_TOKENS = 77  # as CLIP
WORDS = ("red", "blue", "green", "circle", "square", "sky", "cat", "dog", "face", "hair")  # one token each
FILES = (
    "config.json",
    "merges.txt",
    "model.safetensors",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.json",
)


def config(vision_layers: int = VISION_LAYERS, extract_layers: tuple[int, ...] = EXTRACT_LAYERS):
    """A `CLIPSegConfig` of the published model's kind (complex transposed convolution, FiLM at layer 0)."""
    from transformers import CLIPSegConfig

    vocabulary = len(_vocabulary()[0])
    return CLIPSegConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": MAX_TOKENS,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": 1,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": vision_layers,
            "num_attention_heads": 2,
            # The published model's positions were trained at 224 and are stretched to 352; here 32 to 64.
            "image_size": IMAGE_SIZE // 2,
            "patch_size": PATCH,
        },
        projection_dim=24,
        extract_layers=list(extract_layers),
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        conditional_layer=0,
        use_complex_transposed_convolution=True,
    )


def model(seed: int = 0, **config_options):
    """A `CLIPSegForImageSegmentation` with random weights, the same for the same seed, in eval mode."""
    from transformers import CLIPSegForImageSegmentation

    made = CLIPSegForImageSegmentation(config(**config_options)).eval().requires_grad_(False)
    # Drawn here, not by transformers, whose start values differ from version to version, and are so small that every
    # pixel's logit is about the same: these give probabilities on both sides of any threshold.
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(made.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise * 1.5 / parameter[0].numel() ** 0.5)
        else:
            parameter.copy_(0.3 * noise + ("norm" in name and name.endswith("weight")))
    return made


def write(folder: Path, seed: int = 0, **config_options) -> Path:
    """Write the files of a model repository into ``folder`` (made if missing) and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    model(seed, **config_options).save_pretrained(folder, safe_serialization=True)
    for unneeded in set(folder.iterdir()) - {folder / name for name in FILES}:
        unneeded.unlink()  # generation_config.json, which the published repository does not have

    tokenizer.write(folder, *_vocabulary())
    tokenizer.write_json(
        folder / "preprocessor_config.json",
        {
            "feature_extractor_type": "ViTFeatureExtractor",
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
            "resample": 2,
            "do_rescale": True,
            "do_normalize": True,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
    )
    return folder


def make(folder: Path, seed: int = 0, **config_options):
    """A pair ``(processor, model)`` read back by plain transformers from files written into ``folder``."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    write(folder, seed, **config_options)
    processor = CLIPSegProcessor.from_pretrained(folder, local_files_only=True)
    loaded = CLIPSegForImageSegmentation.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return processor, loaded.eval().requires_grad_(False)


def _vocabulary() -> tuple[dict[str, int], list[str]]:
    """The words put together from their front, one after the other: what is random hangs on the tokens' numbers."""
    letters = sorted(tokenizer.byte_symbols())
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[str] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair, joined = f"{parts[0]} {parts[1]}", parts[0] + parts[1]
            if pair not in merges:
                merges.append(pair)
                tokens.append(joined)
            parts = [joined, *parts[2:]]
    tokens += [tokenizer.START, tokenizer.END]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, merges
