"""Images: where they come from (`catalogue`, one module per data set), how they are prepared (`protocols`), and how batches
are drawn from them (`batches`).

For anyone who adds a data set or reads images of their own. Data sets are kept in memory as bytes; binarisation and order
are functions of seeds. Files come from elsewhere, so readers check digests, limit sizes and unpickle nothing. The order of
images and the splits are part of every published number: they must not change.
"""

from mpdvae.data.batches import batch_indices, steps_per_epoch
from mpdvae.data.catalogue import ENTRIES, check, data_dir, entry, fetch, load, names
from mpdvae.data.conditions import Condition, split_condition, split_labels, with_condition, with_labels
from mpdvae.data.entry import Entry
from mpdvae.data.images import Factor, Images, Splits
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
    "Condition",
    "Entry",
    "Factor",
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
    "split_condition",
    "split_labels",
    "split_train_validation",
    "steps_per_epoch",
    "training_batch",
    "with_condition",
    "with_labels",
]
