// modeling_modern.h: the modern family in PyTorch, which a checkpoint has beside its weights: transformers does not know the family, and loads it by this file
// (AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)). dev/reference/modern_files.py compares its logits with ours.
#pragma once

inline constexpr const char* MODELING_MODERN = R"py("""A modern GPT for transformers: AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).

Each choice is a field of config.json. Matrices are (out, in); c_attn yields queries, keys and values one behind the other.
"""
import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class ModernConfig(PretrainedConfig):
    model_type = "modern"

    def __init__(self, vocab_size=50257, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=2048,
                 norm_type="rms_norm", norm_eps=1e-6, use_qk_norm=True, use_bias=False, position_embedding_type="rope", rope_theta=10000.0, hidden_act="relu2",
                 logit_softcap=15.0, zero_init_residual=True, tie_word_embeddings=False, sliding_window=None, layer_types=None, **rest):
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.num_attention_heads, self.max_position_embeddings = num_hidden_layers, num_attention_heads, max_position_embeddings
        self.norm_type, self.norm_eps, self.use_qk_norm, self.use_bias = norm_type, norm_eps, use_qk_norm, use_bias
        self.position_embedding_type, self.rope_theta, self.hidden_act = position_embedding_type, rope_theta, hidden_act
        self.logit_softcap, self.zero_init_residual = logit_softcap, zero_init_residual
        if sliding_window:                                                       # short, short, short, long; the last layer is long
            short = [layer % 4 != 3 and layer != num_hidden_layers - 1 for layer in range(num_hidden_layers)]
            self.sliding_window = sliding_window
            self.layer_types = layer_types or ["sliding_attention" if s else "full_attention" for s in short]
        super().__init__(tie_word_embeddings=tie_word_embeddings, **rest)


def rms_norm(x, eps):
    return (x.float() * (x.float().square().mean(-1, keepdim=True) + eps).rsqrt()).to(x.dtype)


class Norm(nn.Module):
    """RMSNorm without weights, or LayerNorm with them."""
    def __init__(self, c):
        super().__init__()
        self.eps, self.rms = c.norm_eps, c.norm_type == "rms_norm"
        self.weight = None if self.rms else nn.Parameter(torch.ones(c.hidden_size))
        self.bias = None if self.rms or not c.use_bias else nn.Parameter(torch.zeros(c.hidden_size))

    def forward(self, x):
        return rms_norm(x, self.eps) if self.rms else F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


def rope(x, positions, theta):
    """x (B, NH, T, HS): pairs (i, i + HS/2) turn by the angle position theta^(-2i/HS)."""
    HS = x.shape[-1]
    w = 1.0 / theta ** (torch.arange(0, HS, 2, device=x.device).float() / HS)
    angle = positions.float()[:, None] * w                                       # (T, HS/2)
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c, layer):
        super().__init__()
        self.c, self.layer = c, layer
        self.c_attn = nn.Linear(c.hidden_size, 3 * c.hidden_size, bias=c.use_bias)
        self.c_proj = nn.Linear(c.hidden_size, c.hidden_size, bias=c.use_bias)

    def forward(self, x, positions, mask, cache):
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.c.num_attention_heads, -1).transpose(1, 2) for y in self.c_attn(x).split(C, -1))
        if self.c.use_qk_norm:
            q, k = rms_norm(q, self.c.norm_eps), rms_norm(k, self.c.norm_eps)
        if self.c.position_embedding_type == "rope":
            q, k = rope(q, positions, self.c.rope_theta), rope(k, positions, self.c.rope_theta)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        mask = mask[..., -k.shape[2]:]                                           # a cache of windows keeps no more than they see
        if getattr(self.c, "sliding_window", None) and self.c.layer_types[self.layer] == "sliding_attention":
            last = mask.shape[-1] - T + torch.arange(T, device=x.device)[:, None]  # each token's own key
            mask = mask & (torch.arange(mask.shape[-1], device=x.device) > last - self.c.sliding_window)
        return self.c_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(B, T, C))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c_fc = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.use_bias)
        self.c_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=c.use_bias)
        self.relu2 = c.hidden_act == "relu2"

    def forward(self, x):
        x = self.c_fc(x)
        return self.c_proj(F.relu(x).square() if self.relu2 else F.gelu(x, approximate="tanh"))


class Block(nn.Module):
    def __init__(self, c, layer):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = Norm(c), Attention(c, layer), Norm(c), Mlp(c)

    def forward(self, x, positions, mask, cache):
        x = x + self.attn(self.ln_1(x), positions, mask, cache)
        return x + self.mlp(self.ln_2(x))


class Trunk(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.wte = nn.Embedding(c.vocab_size, c.hidden_size)
        if c.position_embedding_type != "rope":
            self.wpe = nn.Embedding(c.max_position_embeddings, c.hidden_size)
        self.h = nn.ModuleList(Block(c, layer) for layer in range(c.num_hidden_layers))
        self.ln_f = Norm(c)


class ModernForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = ModernConfig
    base_model_prefix = "transformer"
    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.transformer = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module):
        c = self.config
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if c.zero_init_residual and isinstance(module, (Attention, Mlp)):
            nn.init.zeros_(module.c_proj.weight)
        if c.zero_init_residual and module is self and not c.tie_word_embeddings:
            nn.init.zeros_(self.lm_head.weight)

    def get_input_embeddings(self):
        return self.transformer.wte

    def set_input_embeddings(self, value):
        self.transformer.wte = value

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, attention_mask=None, past_key_values=None, labels=None, use_cache=None, cache=None, **unused):
        c, t = self.config, self.transformer
        cache = cache if cache is not None else past_key_values                  # its name from transformers 5.24 on, and before
        if use_cache and cache is None:
            cache = DynamicCache()
        past = cache.get_seq_length() if cache is not None else 0
        positions = torch.arange(past, past + input_ids.shape[1], device=input_ids.device)
        mask = (torch.arange(past + input_ids.shape[1], device=input_ids.device) <= positions[:, None])[None, None]  # (1, 1, T, past + T)
        if attention_mask is not None and attention_mask.dim() == 2:
            if not (attention_mask[:, 1:] <= attention_mask[:, :-1]).all():
                raise ValueError("padding must be on the right: positions are counted from the first token")
            mask = mask & attention_mask[:, None, None, :].bool()
        x = t.wte(input_ids)
        if c.position_embedding_type != "rope":
            x = x + t.wpe(positions)
        for block in t.h:
            x = block(x, positions, mask, cache)
        logits = self.lm_head(t.ln_f(x))
        if c.logit_softcap > 0:
            logits = (logits.float() * (1 + (logits.float() / c.logit_softcap).square()).rsqrt()).to(logits.dtype)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()) if labels is not None else None
        return CausalLMOutputWithPast(loss, logits, cache)
)py";
