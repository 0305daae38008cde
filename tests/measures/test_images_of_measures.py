"""Measures of a model and images refuse what is no tensor of images in one sentence, whichever of them is asked."""

from unchecked_types import sentences

MEASURES = [
    "measure_code(vae, given)",
    "measure_code_use(vae, given)",
    "measure_encoder_lag(vae, given)",
    "measure_linear_threshold(vae, given)",
    "estimate_by_annealing(vae, given, chains=1, steps=1)",
    "estimate_density(vae, given, 2)",
    "representation.posteriors(vae, given)",
    "representation.codes(vae, given)",
]
NO_IMAGES = {
    "np.zeros((2, 1, 8, 8))": "a ndarray",
    "np.zeros((2, 1, 8, 8)).tolist()": "a list",
    "torch.zeros(2, 1, 8, 8).long()": "torch.int64",
    "torch.zeros(2, 1, 8, 8).bool()": "torch.bool",
    "'pictures'": "a str",
    "None": "a NoneType",
}


def test_what_is_no_tensor_of_images_is_refused_by_every_measure():
    setup = "from mpdvae.measures import *\nvae = tiny('vae-digits-smoke').build((1, 8, 8))"
    said = sentences(setup, MEASURES, list(NO_IMAGES))
    assert len(said) == len(MEASURES) * len(NO_IMAGES)
    for (measure, given), sentence in said.items():
        expected = f"x: expected a tensor of floating-point images in the model's value range, got {NO_IMAGES[given]}; "
        assert sentence.startswith(expected), (measure, given)
