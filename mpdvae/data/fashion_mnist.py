"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): 70,000 pictures of clothes, 28x28, grey levels, ten classes.

Format: the four idx files of MNIST. Found in the data folder (in this package's layout or torchvision's), or where Debian's
package dataset-fashion-mnist puts them; the package's .gz files differ from the published ones, their contents do not.
Fetched from the authors' address. Licence: MIT.

Split: official test images; 2,000 training images for validation, by seed, as for MNIST. Comparable with published
likelihoods only if the binarisation is the same; few papers state which one they used.
"""

from mpdvae.data.entry import Entry
from mpdvae.data.idx_set import IdxSet, mirror

_RAW_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_GZIPPED_SHA256 = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
_DEBIAN = "/usr/share/datasets/fashion-mnist"

FASHION_MNIST = IdxSet(
    name="fashion-mnist",
    title="Fashion-MNIST",
    validation_size=2_000,
    folders=("fashion-mnist", "FashionMNIST/raw", _DEBIAN),
    checksums=_RAW_SHA256,
    sources=(mirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", _GZIPPED_SHA256),),
    advice=", or install Debian's package dataset-fashion-mnist",
)

ENTRY = Entry(
    name="fashion-mnist",
    title="Fashion-MNIST",
    images="60,000 + 10,000, 28x28 grey",
    size_mb=54.9,
    licence="MIT (Zalando SE)",
    protocol="official test; 2,000 training images for validation, by seed",
    load=FASHION_MNIST.load,
    is_here=FASHION_MNIST.is_here,
    fetch=FASHION_MNIST.fetch,
    check=FASHION_MNIST.check,
)
