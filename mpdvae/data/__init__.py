"""The data package: images in memory, their preparation (protocols, batches), and their sources (catalogue)."""

from mpdvae.data.batches import batch_indices, steps_per_epoch
from mpdvae.data.catalogue import ENTRIES, check, data_dir, entry, fetch, load, names
from mpdvae.data.entry import Entry
from mpdvae.data.images import Images, Splits
from mpdvae.data.progress import Lines, Listener
from mpdvae.data.protocols import (
    Protocol,
    binarise,
    evaluation_images,
    images_by_content,
    split_train_validation,
    training_batch,
)

__all__ = [
    "ENTRIES",
    "Entry",
    "Images",
    "Lines",
    "Listener",
    "Protocol",
    "Splits",
    "batch_indices",
    "binarise",
    "check",
    "data_dir",
    "entry",
    "evaluation_images",
    "fetch",
    "images_by_content",
    "load",
    "names",
    "split_train_validation",
    "steps_per_epoch",
    "training_batch",
]
