"""What a bundle says of its tasks: how raw outputs become results, one class per family of models.

They stand in `bundle.json`; runtime/manifest.py has the rest of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jetlift.runtime.jsonform import field

# A path inside the bundle: relative, forward slashes, no `.` or `..` step, nothing hidden.
RELATIVE_PATH = r"(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*/)*[A-Za-z0-9_][A-Za-z0-9_.+-]*"
NAME = r"[a-z0-9][a-z0-9_-]*"

# How often a part runs: once per input, per prompt, window or token of it, per step of a loop, or
# per batch of regions or rays.
RunsPer = Literal["input", "prompt", "window", "token", "step", "region", "ray_batch"]


@dataclass(frozen=True)
class Detection:
    """How a detector's raw output becomes boxes."""

    head: Literal["yolox"] = field(doc="Form of the raw output")
    strides: tuple[int, ...] = field(doc="Pixels per grid cell, one per level, finest first")
    labels: str = field(
        doc="Path of the class names in the bundle, one per line", pattern=RELATIVE_PATH
    )
    score_threshold: float = field(doc="Boxes below this score are dropped")
    iou_threshold: float = field(
        doc="Of two boxes of one class that overlap more, the better stays"
    )


@dataclass(frozen=True)
class Classification:
    """How a classifier's raw output becomes labels."""

    output: str = field(doc="Graph output with one raw score (logit) per class, [batch, classes]")
    labels: str = field(
        doc="Path of the class names in the bundle, one per line, in the order of the scores",
        pattern=RELATIVE_PATH,
    )


@dataclass(frozen=True)
class ZeroShot:
    """How a picture's embedding and those of words become scores: facts of the checkpoint."""

    image: str = field(doc="Part that encodes pictures", pattern=NAME)
    text: str = field(doc="Part that encodes words", pattern=NAME)
    logit_scale: float = field(doc="Factor on the cosine of two embeddings")
    logit_bias: float = field(doc="Added to that; 0 where the model has none")
    scores: Literal["softmax", "sigmoid"] = field(
        doc="softmax: the words share a whole of 1; sigmoid: each word is judged by itself"
    )
    template: str = field(
        doc="The sentence a word is put into where the user gives none; {} stands for the word"
    )


@dataclass(frozen=True)
class GroundingFacts:
    """What a detector that reads words and picture together fixes of its text."""

    longest: int = field(doc="Tokens of all prompts together, special tokens included")
    begin: int = field(doc="Id of the token that begins the text")
    end: int = field(doc="Id of the token that ends the text")
    stop: int = field(doc="Id of the token that closes each prompt, a full stop")
    breaks: tuple[int, ...] = field(
        doc="Ids of tokens that would split a prompt in two, so that none may have them inside"
    )


@dataclass(frozen=True)
class DeticFacts:
    """What a detector of proposals, regions and masks fixes beside its graphs."""

    regions: str = field(doc="Part that scores proposals and moves their boxes", pattern=NAME)
    masks: str = field(doc="Part that draws the mask of a box", pattern=NAME)
    strides: tuple[int, ...] = field(doc="Pixels per cell of each level of the heat map")
    heat_threshold: float = field(doc="Cells at or below this heat are no proposals")
    level_candidates: int = field(doc="Most proposals per level before suppression")
    proposal_iou: float = field(doc="Of two proposals that overlap more, the hotter stays")
    proposals: int = field(doc="Most proposals that are scored")
    detections: int = field(doc="Most boxes of a picture")
    one_label: bool = field(doc="Whether a proposal keeps its best prompt alone")


@dataclass(frozen=True)
class OpenVocabulary:
    """How a detector's outputs and words become boxes."""

    family: Literal["owl", "grounding", "detic"] = field(
        doc="owl: a class embedding per patch is compared with each prompt's; grounding: the "
        "picture part reads the tokens of all prompts; detic: proposals are scored per prompt"
    )
    image: str = field(doc="Part that reads pictures", pattern=NAME)
    text: str = field(doc="Part that encodes words", pattern=NAME)
    template: str = field(
        doc="The sentence a word is put into where the user gives none; {} stands for the word"
    )
    score_threshold: float = field(doc="Boxes at or below this score are dropped")
    iou_threshold: float | None = field(
        doc="Of two boxes of one prompt that overlap more, the better stays; null keeps both"
    )
    grounding: GroundingFacts | None = field(
        doc="Facts of the family `grounding`; null for others", default=None
    )
    detic: DeticFacts | None = field(
        doc="Facts of the family `detic`; null for others", default=None
    )


@dataclass(frozen=True)
class Diffusion:
    """How a latent diffusion model makes pictures: its parts, and facts of the checkpoint."""

    text_encoder: str = field(doc="Part that reads prompts", pattern=NAME)
    unet: str = field(doc="Part that predicts noise", pattern=NAME)
    vae_decoder: str = field(doc="Part that makes pictures of latents", pattern=NAME)
    vae_encoder: str = field(doc="Part that makes latents of pictures", pattern=NAME)
    latent_shape: tuple[int, ...] = field(doc="Channels, height and width of a picture's latents")
    size_wh: tuple[int, ...] = field(doc="Width and height of a picture in pixels")
    train_steps: int = field(doc="Timesteps it was trained with (num_train_timesteps)")
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = field(
        doc="How noise grows with the timestep"
    )
    beta_start: float = field(doc="Variance of the noise that the first timestep adds")
    beta_end: float = field(doc="Variance of the noise that the last timestep adds")
    prediction: Literal["epsilon", "v_prediction", "sample"] = field(
        doc="What the UNet predicts: the noise, the velocity or the picture's latents"
    )
    spacing: Literal["leading", "trailing", "linspace"] | None = field(
        doc="How the timesteps of a run are chosen; null takes the scheduler's usual way"
    )
    steps_offset: int = field(doc="Added to each timestep with the spacing 'leading'")
    final_alpha_one: bool = field(
        doc="Whether DDIM's last step leaves no noise at all (set_alpha_to_one)"
    )
    scheduler: Literal["ddim", "euler", "dpm++"] = field(doc="Scheduler where none is named")
    steps: int = field(doc="Steps where no number is named")
    guidance: float = field(
        doc="Weight of the words where none is named; 1 where the model was trained for that"
    )
    strength: float = field(doc="How far a given picture is changed where nothing is named, 0 to 1")
    masked: bool = field(
        doc="Whether the UNet also takes the mask and the latents of the masked picture"
    )


@dataclass(frozen=True)
class UnClip:
    """How an unCLIP model makes pictures: words to an embedding, a small picture, the picture.

    Noise follows the squared cosine schedule throughout.
    """

    text: str = field(doc="Part that encodes words, per prompt", pattern=NAME)
    image: str = field(doc="Part that encodes pictures, for variations", pattern=NAME)
    prior: str = field(
        doc="Part that goes from words to a picture's embedding, per step", pattern=NAME
    )
    text_proj: str = field(
        doc="Part that makes the decoder's conditions of both, per picture", pattern=NAME
    )
    decoder: str = field(doc="Part that makes the small picture, per step", pattern=NAME)
    super_first: str = field(doc="Part that enlarges it, per step but the last", pattern=NAME)
    super_last: str = field(doc="Part that enlarges it in the last step", pattern=NAME)
    clip_stats: str = field(
        doc="Path of the embeddings' mean and standard deviation in the bundle, .npy [2, D]",
        pattern=RELATIVE_PATH,
    )
    prior_steps: int = field(doc="Steps of the prior by default")
    decoder_steps: int = field(doc="Steps of the decoder by default")
    super_steps: int = field(doc="Steps of the enlargement, which the model was trained for")
    prior_guidance: float = field(doc="Weight of the words in the prior")
    decoder_guidance: float = field(doc="Weight of words and embedding in the decoder by default")
    prior_clip: float = field(doc="Largest value of a normalised embedding that the prior predicts")
    train_steps: int = field(doc="Timesteps the model was trained with")


@dataclass(frozen=True)
class PosePreprocess:
    """From camera poses to the rays, or to points along them, that a part takes."""

    kind: Literal["poses"] = field(doc="Says that this part takes camera poses")
    positions: str = field(doc="Graph input for ray origins, or for points; float32 [N, 3]")
    directions: str = field(doc="Graph input for unit directions, float32 [N, 3]")


@dataclass(frozen=True)
class Radiance:
    """How a radiance field is rendered: facts of its scene and of the cameras it learned from.

    Lengths are in the scene's own unit, z is up.
    """

    rays: str = field(doc="Part that renders rays, the march inside", pattern=NAME)
    points: str = field(doc="Part that tells density and colour of points", pattern=NAME)
    size_wh: tuple[int, ...] = field(doc="Width and height of a view in pixels")
    focal_px: float = field(doc="Focal length in pixels of such a view")
    near: float = field(doc="Nothing nearer to the camera is rendered")
    background_rgb: tuple[float, ...] = field(doc="Colour where nothing is, 0 to 1")
    centre_xyz: tuple[float, ...] = field(doc="Middle of the scene's box; orbits look at it")
    half_xyz: tuple[float, ...] = field(doc="Half the box's sides")
    march_low_xyz: tuple[float, ...] = field(doc="Lowest corner of what rays march through")
    march_high_xyz: tuple[float, ...] = field(doc="Its highest corner")
    samples: int = field(doc="Samples along a ray")
    orbit_radius: float = field(doc="Mean distance of the training cameras from the centre")
    orbit_elevation_deg: float = field(doc="Their mean height above the horizon")
    occupancy: str | None = field(
        doc="Path of the occupancy grid in the bundle, .npy bool [x, y, z] over the box; null "
        "where there is none",
        pattern=RELATIVE_PATH,
        default=None,
    )
