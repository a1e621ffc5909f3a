"""The node MaskInstances: splits masks into instances, and picks some of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict

import torch

from ..core import checks, tensors
from ..core.errors import InputError
from ..core.instances.instances import (
    SPLITS,
    Instance,
    boxes_to_instances,
    check_memory,
    count_images,
    draw_masks,
    draw_union,
    find_instances,
)
from ..core.instances.picking import ORDERS, Choice
from . import _host as host
from . import _view
from ._boxes import read_boxes, write_boxes
from ._widgets import TableNode, choice, integer, number, socket, text

logger = logging.getLogger(__name__)


class MaskInstances(TableNode):
    """Splits masks into instances, and picks some of them."""

    DESCRIPTION = (
        "Splits masks into instances (connected parts, for example), sorts and filters them, and outputs one mask and "
        "one bounding box for each. Also turns bounding boxes into masks. Click instances in the preview to pick them."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "instances",
        "separate masks",
        "split mask",
        "connected components",
        "mask to list",
        "bounding box to mask",
        "mask to bounding box",
        "filter masks",
        "sort masks",
        "pick mask",
        "remove specks",
        "SAM3 masks",
    ]
    CATEGORY = "Maskwright"
    FUNCTION = "split_masks"
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_NODE = True  # can be run alone, for its preview
    RETURN_TYPES = ("MASK", "MASK", "BOUNDING_BOX", "INT")
    RETURN_NAMES = ("masks", "union", "bounding_boxes", "count")
    OUTPUT_TOOLTIPS = (
        "One mask per picked instance; a batch of 0 if there is none.",
        "One mask of all picked instances.",
        "The box around each picked instance, one list per image. Scores and labels of connected boxes are kept.",
        "The number of picked instances.",
    )

    INPUTS = {
        "required": {},
        "optional": {
            "masks": socket(
                "MASK",
                "The masks to split: one mask, several for one image, or one per image. If not connected, each "
                "bounding box becomes a rectangular mask.",
            ),
            "bounding_boxes": socket(
                "BOUNDING_BOX",
                "Optional boxes from a detector, for their scores and labels. As many boxes as masks describe them in "
                "order; otherwise each connected part gets the smallest box that contains its center.",
                forceInput=True,
            ),
            "image": socket(
                "IMAGE",
                "The image for the preview, to which masks of another size are resized. Required for boxes without "
                "masks.",
            ),
            "split": choice(
                SPLITS,
                default=SPLITS[0],
                tooltip="What counts as one instance: each connected part of a mask, each mask that is not empty, or "
                "each mask, even if it is empty.",
            ),
            "sort_by": choice(
                ORDERS,
                default=Choice.sort_by,
                tooltip="The order of the instances of each image. As found: mask by mask, and in each mask from the "
                "top down.",
            ),
            "min_area": number(
                Choice.min_area,
                (0.0, 100.0, 0.01),
                tooltip="Drop instances that cover less than this percentage of the image.",
                round=0.0001,
            ),
            "overlap": number(
                Choice.overlap,
                (0.0, 1.0, 0.05),
                tooltip="Merge instances that share more than this fraction of the smaller one, such as two detections "
                "of the same face. 1 merges nothing.",
            ),
            "limit": integer(
                Choice.limit, (0, 100000), "Maximum number of instances per image, counted after sorting. 0: no limit."
            ),
            "pick": text(
                "Numbers of the instances to output, such as 0, 2-4; -1 is the last, and empty means all. Click "
                "instances in the preview to add or remove them.",
            ),
        },
        "hidden": _view.HIDDEN,
    }

    def split_masks(
        self,
        masks=None,
        bounding_boxes=None,
        image=None,
        split=SPLITS[0],
        sort_by=Choice.sort_by,
        min_area=Choice.min_area,
        overlap=Choice.overlap,
        limit=Choice.limit,
        pick=Choice.pick,
        extra_pnginfo=None,
    ):
        settings = Choice(sort_by, min_area, overlap, limit, pick)
        masks, image = _check_inputs(masks, bounding_boxes, image)
        (height, width), images = masks.shape[1:], 1 if image is None else len(image)
        detections = read_boxes(bounding_boxes, width, height)
        least_area = settings.least_area(height, width)
        if len(masks) == 0:
            instances = boxes_to_instances(detections, least_area, images)
        else:
            instances = find_instances(masks, detections, split, images, least_area)
        images = count_images(len(masks), detections, images)
        candidates = settings.candidates(instances)
        picked = settings.choose(candidates)
        if not picked:
            logger.warning(_explain_nothing(len(candidates), settings))
        picked_masks = draw_masks(picked, (height, width), masks.device, host.ComfyHost())
        union = draw_union(picked, (height, width), masks.device)
        view = _view.View(extra_pnginfo)
        if view.max_images:
            by_image = [[each for each in candidates if each.image == i] for i in range(images)]
            view.instances(_choose_backgrounds(image, by_image, masks), by_image)
        result = (picked_masks, union, write_boxes(picked, images), len(picked))
        values = {"split": split, **asdict(settings)}
        return view.with_previews(result, kind="instances", settings=values, has_image=image is not None)


def _check_inputs(masks, bounding_boxes, image) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The masks ``[M,H,W]`` in the size of the image, a batch of 0 if there are none, and the image ``[B,H,W,C]``."""
    if image is not None:
        image = checks.as_image_batch(image, "image")
    if masks is None:
        if bounding_boxes is None or image is None:
            raise InputError(
                "masks is missing" if bounding_boxes is None else "bounding_boxes without masks need an image",
                "Connect masks, or bounding_boxes and the image that they belong to",
            )
        return image.new_zeros(0, *image.shape[1:3]), image
    masks = checks.as_mask_batch(masks, "masks")
    if image is None or masks.shape[1:] == image.shape[1:3]:
        return masks, image
    (mask_height, mask_width), (height, width) = masks.shape[1:], image.shape[1:3]
    if len(masks) == 0:  # SAM3's are square, whatever the image is
        return masks.new_zeros(0, *image.shape[1:3]), image
    logger.warning(
        "masks are %d x %d and image is %d x %d: the masks were resized to the image",
        mask_width, mask_height, width, height,
    )  # fmt: skip
    check_memory(len(masks), height, width, masks.device, host.ComfyHost())
    return tensors.resize_mask(masks, height, width), image


def _explain_nothing(candidates: int, settings: Choice) -> str:
    """Why the result is a batch of 0."""
    if candidates:
        return f"pick is {settings.pick!r}, which names none of the {candidates} instances (the first is 0)"
    if settings.min_area:
        return f"nothing that covers at least {settings.min_area:g} % of the image is selected"
    return "nothing is selected"


def _choose_backgrounds(
    image: torch.Tensor | None, by_image: Sequence[Sequence[Instance]], masks: torch.Tensor
) -> list[torch.Tensor]:
    """The background of each image's preview: the image ``[H,W,C]``, or else the masks in gray."""
    previewed = by_image[: _view.MAX_IMAGES]
    if image is not None:
        return [image[i if len(image) > i else 0] for i in range(len(previewed))]
    return [tensors.mask_to_image(draw_union(each, masks.shape[1:], masks.device))[0] for each in previewed]
