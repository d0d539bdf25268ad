"""Models by name: presets trained from scratch, local folders, hub ids.

transformers takes seconds to import, so it is imported inside the functions that need it: a wrong name is
refused, and the process group is up, before that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hub
import torch
from errors import WrongInput

# Weights, gradients and the two moments of Adam, all in float32.
BYTES_PER_PARAMETER = 16


@dataclass(frozen=True)
class Preset:
    """A Llama configuration and the defaults that suit its size."""

    config: dict[str, Any]
    seq_len: int = 2048
    batch_size: int = 1
    learning_rate: float = 3e-4
    pretrained: bool = False


def _llama(hidden: int, ffn: int, layers: int, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        **more,
    }


_LLAMA_3 = {"vocab_size": 128256, "rope_theta": 500000.0, "rms_norm_eps": 1e-5}

PRESETS = {
    "tiny-llama": Preset(
        _llama(128, 352, 4, 4, 4, vocab_size=2048, tie_word_embeddings=True),
        seq_len=128,
        batch_size=2,  # many small steps: the loss falls visibly within a minute on two CPU cores
        learning_rate=3e-3,
    ),
    "llama-160m": Preset(_llama(768, 3072, 12, 12, 12), seq_len=1024, batch_size=4, learning_rate=6e-4),
    "llama-1b": Preset(_llama(2048, 8192, 16, 32, 8, tie_word_embeddings=True, **_LLAMA_3)),
    "llama-3b": Preset(_llama(3072, 8192, 28, 24, 8, tie_word_embeddings=True, **_LLAMA_3)),
    "llama-7b": Preset(_llama(4096, 11008, 32, 32, 32)),
    "llama-8b": Preset(_llama(4096, 14336, 32, 32, 8, **_LLAMA_3)),
    "llama-13b": Preset(_llama(5120, 13824, 40, 40, 40)),
    "llama-70b": Preset(_llama(8192, 28672, 80, 64, 8), learning_rate=1.5e-4),
}

_PRETRAINED = Preset({}, seq_len=512, batch_size=1, learning_rate=2e-5, pretrained=True)


def preset(name: str) -> Preset:
    """Return the preset `name`, or the defaults for a local folder or a hub id.

    Raises:
        WrongInput: `name` is none of these.
    """
    if name in PRESETS:
        return PRESETS[name]
    if name and Path(name).expanduser().is_dir():  # an empty name would be the present folder
        if not (Path(name).expanduser() / "config.json").is_file():
            raise WrongInput(f"model folder {name!r} has no config.json; give a folder saved by transformers")
        return _PRETRAINED
    owner, slash, repo = name.partition("/")
    if slash and owner and repo and "/" not in repo and owner not in {".", "..", "~"}:
        return _PRETRAINED
    raise WrongInput(
        f"unknown model {name!r}; presets: {', '.join(PRESETS)}; or give a local folder or a hub id (owner/name)"
    )


def import_early(name: str) -> None:
    """Import what `build` will need, while there is time."""
    if not preset(name).pretrained:
        from transformers.models.llama import LlamaForCausalLM  # noqa: F401


def config_of(name: str, seq_len: int) -> Any:
    """Return the `LlamaConfig` of the preset `name`."""
    from transformers.models.llama import LlamaConfig

    values = dict(PRESETS[name].config)
    values["max_position_embeddings"] = max(seq_len, PRESETS[name].seq_len)
    # The tokenizer made here has one special token, number 0, that ends a document.
    return LlamaConfig(**values, use_cache=False, bos_token_id=0, eos_token_id=0)


def build(name: str, seq_len: int, device: torch.device, ranks_on_node: int) -> Any:
    """Return the model `name` on `device`; presets get fresh weights from torch's random generator.

    Raises:
        WrongInput: it does not fit into memory, or could not be had.
    """
    if not preset(name).pretrained:
        from transformers.models.llama import LlamaForCausalLM

        config = config_of(name, seq_len)
        with torch.device("meta"):
            parameters = sum(p.numel() for p in LlamaForCausalLM(config).parameters())
        _check_memory(name, parameters, device, ranks_on_node)
        return LlamaForCausalLM(config).to(device)
    model = _from_transformers("AutoModelForCausalLM", name, dtype=torch.float32)
    model.config.use_cache = False
    return model.to(device)


def tokenizer_of(name: str) -> tuple[str, str] | None:
    """Return the tokenizer of a pretrained model (as JSON text) and its end-of-text token, else None."""
    if not preset(name).pretrained:
        return None
    tokenizer = _from_transformers("AutoTokenizer", name)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise WrongInput(f"model {name!r} has no fast tokenizer (tokenizer.json); convert it first")
    return backend.to_str(), tokenizer.eos_token or ""


def _from_transformers(loader: str, name: str, **options: Any) -> Any:
    path = Path(name).expanduser()
    offline = "" if path.is_dir() else hub.prepare_client()
    import transformers

    try:
        return getattr(transformers, loader).from_pretrained(str(path) if path.is_dir() else name, **options)
    except (OSError, ValueError) as error:
        if path.is_dir():
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise WrongInput(f"model folder {name!r} cannot be loaded: {first}") from error
        raise WrongInput(hub.what_failed("model", name, offline, error)) from error


def _check_memory(name: str, parameters: int, device: torch.device, ranks_on_node: int) -> None:
    """Refuse before the machine runs out of memory, not after."""
    if device.type == "cuda":
        has, where, sharing = torch.cuda.get_device_properties(device).total_memory, "this GPU", 1
    else:
        has, where, sharing = _available_memory(), "this node", ranks_on_node
    needs = parameters * BYTES_PER_PARAMETER * sharing
    if has and needs > has:
        raise WrongInput(
            f"model {name!r} has {parameters / 1e9:.1f} billion parameters and needs {needs / 2**30:.0f} GB to "
            f"train with Adam on {sharing} rank(s), {where} has {has / 2**30:.0f} GB; take a smaller preset"
        )


def _available_memory() -> int:
    """Return free memory in bytes (Linux), or all of it where only that is known."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
