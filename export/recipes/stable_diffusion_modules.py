"""Stable Diffusion's four parts as modules that export.

The factor between the VAE's latents and the UNet's lies in the VAE's parts, and so does the step
from -1..1 to a picture's 0..1: the device then knows neither.
"""

from __future__ import annotations

from typing import Any

import torch

# As DiagonalGaussianDistribution in diffusers 0.42 (models/autoencoders/vae.py) bounds it.
_LOWEST_LOG, _HIGHEST_LOG = -30.0, 20.0


class TextEncoder(torch.nn.Module):
    """Token ids [batch, 77] -> hidden states [batch, 77, width] of the last layer, normalised.

    Args:
        model: transformers' CLIPTextModel.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers ships no types
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """See the class."""
        hidden: torch.Tensor = self.model(input_ids).last_hidden_state
        return hidden


class Unet(torch.nn.Module):
    """Latents, one timestep and hidden states -> predicted noise, of the latents' shape.

    Args:
        model: diffusers' UNet2DConditionModel.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - diffusers ships no types for this
        super().__init__()
        self.model = model

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor, hidden_states: torch.Tensor
    ) -> torch.Tensor:
        """See the class."""
        noise: torch.Tensor = self.model(latents, timestep, hidden_states, return_dict=False)[0]
        return noise


class VaeDecoder(torch.nn.Module):
    """The UNet's latents -> pictures [batch, 3, height, width], RGB from 0 to 1.

    Args:
        model: diffusers' AutoencoderKL.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - as before
        super().__init__()
        self.before, self.decoder = model.post_quant_conv, model.decoder
        self.factor = float(model.config.scaling_factor)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """See the class."""
        picture = self.decoder(self.before(latents / self.factor))
        return torch.clamp(picture * 0.5 + 0.5, 0.0, 1.0)


class VaeEncoder(torch.nn.Module):
    """Pictures [batch, 3, height, width], RGB from -1 to 1 -> mean and deviation of their latents.

    Both in the UNet's scale. Latents are mean + deviation * noise.

    Args:
        model: diffusers' AutoencoderKL.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - as before
        super().__init__()
        self.encoder, self.after = model.encoder, model.quant_conv
        self.factor = float(model.config.scaling_factor)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        mean, log_variance = torch.chunk(self.after(self.encoder(pixel_values)), 2, dim=1)
        deviation = torch.exp(0.5 * torch.clamp(log_variance, _LOWEST_LOG, _HIGHEST_LOG))
        return mean * self.factor, deviation * self.factor
