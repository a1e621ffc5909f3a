"""The node RegionCrop: crops every region of a mask for other nodes."""

from __future__ import annotations

from ..core.checks import as_image_batch, as_mask_batch
from ..core.crop.crop_frames import BATCHING, MAX_LENGTH, REGIONS, SIZES, CropSettings
from ..core.crop.crop_regions import choose_regions, find_context
from ..core.crop.crop_stitch import Stitch, crop_regions
from ..core.errors import InputError
from ..core.geometry import Box
from ..core.instances.instances import Instance, Part
from ..core.instances.picking import ORDERS
from . import _host as host
from . import _view
from ._boxes import read_boxes, write_boxes
from ._widgets import TableNode, choice, integer, number, socket, switch, takes

STITCH = "REGION_STITCH"


class RegionCrop(TableNode):
    """Crops every region of a mask, with context, for any nodes in between."""

    DESCRIPTION = (
        "Crops every region of a mask, with some context, so that any nodes can work on the crops. Region Stitch puts "
        "the results back and changes nothing outside the mask."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "inpaint crop",
        "crop and stitch",
        "crop by mask",
        "crop masked area",
        "crop bounding box",
        "inpaint only masked",
        "crop faces",
        "uncrop",
    ]
    CATEGORY = "Maskwright"
    FUNCTION = "crop"
    RETURN_TYPES = ("IMAGE", "MASK", STITCH, "BOUNDING_BOX", "INT")
    RETURN_NAMES = ("crops", "crop_masks", "stitch", "bounding_boxes", "count")
    OUTPUT_IS_LIST = (True, True, False, False, False)
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_TOOLTIPS = (
        "The crops as a list: nodes after this one run once per crop. One black crop if nothing is selected.",
        "The mask of each crop.",
        "For Region Stitch: the images, and where the crops belong.",
        "Where the crops come from, in pixels of the image.",
        "How many regions were cropped.",
    )

    INPUTS = {
        "required": {
            "image": socket("IMAGE", "One image or a batch, RGB or RGBA."),
            "regions": choice(
                REGIONS,
                default=CropSettings.regions,
                tooltip="What to crop: every connected part of a mask, every mask, or everything selected in an image "
                "as a single region.",
            ),
            "order": choice(ORDERS, default=CropSettings.order, tooltip="Order of the regions in each image."),
            "fill_holes": switch(CropSettings.fill_holes, "Also select the holes in the mask."),
            "grow": number(
                CropSettings.grow, (0, 1024, 0.5), "Grow each region by this many pixels, in every direction."
            ),
            "context_factor": number(
                CropSettings.context_factor,
                (1.0, 100.0, 0.1),
                "How much of the surroundings to include: the crop is this many times the region's width and height.",
            ),
            "context_pixels": integer(
                CropSettings.context_pixels,
                (0, MAX_LENGTH),
                "Include at least this many pixels around the region.",
            ),
            "size": choice(
                SIZES,
                default=CropSettings.size,
                tooltip="Size of the crops. keep: as in the image. same area: scaled to width x height pixels in any "
                "proportions. longer side: scaled until the longer side equals width. exact: width and height.",
            ),
            "width": integer(
                CropSettings.width,
                (1, MAX_LENGTH),
                "Width of the crops for exact, or their longer side for longer side. For same area, width x height is "
                "the number of pixels.",
            ),
            "height": integer(CropSettings.height, (1, MAX_LENGTH), "Height of the crops for exact and same area."),
            "multiple_of": integer(
                CropSettings.multiple_of,
                (1, 128),
                "Make both sides of the crops multiples of this number, as the VAE requires: 8 for most models, 16, 32 "
                "or 64 for some.",
            ),
            "blend": integer(
                CropSettings.blend,
                (0, 256),
                "Width of the seam where Region Stitch blends a crop into the image, in pixels on each side of the "
                "mask's edge.",
            ),
            "batching": choice(
                BATCHING,
                default=CropSettings.batching,
                tooltip="Output every crop separately, or crops of equal size as one batch, which samples faster and "
                "takes more memory.",
            ),
        },
        "optional": {
            "mask": socket(
                "MASK",
                "The area to crop: one mask for all images, one per image, or several for a single image. Resized to "
                "the image if the sizes differ.",
            ),
            "bounding_boxes": socket(
                "BOUNDING_BOX",
                "Without a mask, each box is a region. With masks, the boxes only add scores for order, and one list "
                "per image assigns the masks to the images.",
                forceInput=True,
            ),
            "context_mask": socket(
                "MASK",
                "An area that every crop also contains, for the model to see. One mask for all images, or one per "
                "image.",
            ),
        },
        "hidden": _view.HIDDEN,
    }

    @takes(INPUTS)
    def crop(self, image, mask, bounding_boxes, context_mask, extra_pnginfo, **widgets):
        settings = CropSettings(**widgets)
        if mask is None and bounding_boxes is None:
            raise InputError("neither mask nor bounding_boxes is connected", "Connect one of them, or both")
        image = as_image_batch(image, clamp=False)
        mask = None if mask is None else as_mask_batch(mask)
        detections = read_boxes(bounding_boxes, image.shape[2], image.shape[1])
        instances = choose_regions(mask, detections, image, settings)
        context = find_context(None if context_mask is None else as_mask_batch(context_mask, "context_mask"), image)
        crops = crop_regions(image, instances, settings, context, host.progress(len(instances)))
        view = _view.View(extra_pnginfo)
        view.crops(image, *group_boxes(crops.stitch))
        boxes = write_boxes(_locate_crops(crops.stitch, instances), len(image))
        return view.with_previews((crops.images, crops.masks, crops.stitch, boxes, len(instances)), kind="crops")


def group_boxes(stitch: Stitch) -> tuple[list[list[Box]], list[list[Box]]]:
    """The crops and the tight boxes of the regions of each image, in the order of the regions."""
    windows: list[list[Box]] = [[] for _ in stitch.images]
    bboxes: list[list[Box]] = [[] for _ in stitch.images]
    for region in sorted(stitch.regions, key=lambda region: region.number):
        windows[region.image].append(region.frame.window)
        bboxes[region.image].append(region.bbox)
    return windows, bboxes


def _locate_crops(stitch: Stitch, instances: list[Instance]) -> list[Instance]:
    """The windows of the crops as rectangles, with the score and label of their regions."""
    located = []
    for region in stitch.regions:
        window, instance = region.frame.window, instances[region.number]
        part = Part(window, window.width * window.height)
        located.append(Instance((part,), region.image, instance.score, instance.details))
    return located
