"""Experiments: JSON in, JSON out; whatever cannot work is refused by one sentence that names the field."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from mpdvae.distributions.pixel_laws import pixel_law
from mpdvae.distributions.pixel_values import MODELLED
from mpdvae.errors import InputError
from mpdvae.experiments.data_config import Data
from mpdvae.experiments.decoder_config import (
    ColourResNetDecoder,
    DecoderConfig,
    MLPDecoder,
    PixelCNNDecoder,
    PixelCNNPPDecoder,
    ResNetDecoder,
)
from mpdvae.experiments.encoder_config import (
    ColourResNetEncoder,
    ConvNetEncoder,
    DenseNetEncoder,
    EncoderConfig,
    MLPEncoder,
    ResNetEncoder,
)
from mpdvae.experiments.experiment import Experiment, from_json, in_words, with_changes
from mpdvae.experiments.head_config import BatchNormHead, DeltaHead, DUHead
from mpdvae.experiments.kl_weight_config import (
    ConstantWeight,
    CyclicalWeight,
    GECOWeight,
    LinearWeight,
    SoftFreeBitsWeight,
)
from mpdvae.experiments.objective_config import ObjectiveConfig
from mpdvae.experiments.prior_config import AR1Prior, FlowPrior, MapFlowPrior, StandardNormalPrior, VampPrior
from mpdvae.experiments.recipes import all_recipes, recipe
from mpdvae.experiments.training_config import LaggingInference, Training

COLOUR = Experiment(
    name="colour",
    data=Data(dataset="cifar10", binarisation="levels", evaluation_draws=1),
    latent_dim=4,
    encoder=DenseNetEncoder(growths=(3, 2, 2), steps=(1, 1, 2), features=6),
    decoder=PixelCNNPPDecoder(channels=4, levels=2, blocks=1, condition_channels=2, components=2, dropout=0.2),
    prior=MapFlowPrior(blocks=1, hidden_channels=5, hidden_layers=1),
    objective=ObjectiveConfig(diversity_weight=0.5, smoothness_weight=0.1, free_bits_nats=0.3),
)
"""All parts of the paper's colour model, tiny."""

EXPERIMENTS = {
    "colour": COLOUR,
    "colour-resnet": with_changes(
        COLOUR,
        encoder=ColourResNetEncoder(channels=4).model_dump(),
        decoder=ColourResNetDecoder(channels=4, sampled_component="most-probable").model_dump(),
        prior=StandardNormalPrior().model_dump(),
    ),
    **all_recipes(),
    "defaults": Experiment(),
    "every-kind": Experiment(
        encoder=MLPEncoder(hidden_features=(5, 4)),
        decoder=MLPDecoder(),
        prior=FlowPrior(mean_only=True),
        objective=ObjectiveConfig(kl_weight=LinearWeight(warm_up_steps=10), free_bits_nats=0.5, mpd_form="paper"),
        data=Data(dataset="own", path="images.npz", binarisation="static", evaluation_draws=1),
    ),
    "heads": Experiment(encoder=MLPEncoder(head=DUHead(dropout=0.1)), decoder=MLPDecoder(skip_connections=True)),
    "priors": Experiment(prior=VampPrior(components=3), training=Training(inference=LaggingInference())),
    "sequences": Experiment(prior=AR1Prior(length=4), encoder=MLPEncoder(refinement_steps=1)),
    "autoencoder": Experiment(
        encoder=ResNetEncoder(), decoder=ResNetDecoder(), objective=ObjectiveConfig(autoencoder=True)
    ),
    "regularised": Experiment(
        objective=ObjectiveConfig(mmd_weight=10.0, mmd_kernel="rbf", total_correlation_weight=2.0, mpd_weight=0.1)
    ),
    "aggregate": Experiment(
        objective=ObjectiveConfig(kl_weight=ConstantWeight(value=0.0), density_gap_weight=1.0, density_gap_over="total")
    ),
    "encoded again": Experiment(objective=ObjectiveConfig(latent_reconstruction_weight=0.5)),
    "importance-weighted": Experiment(objective=ObjectiveConfig(importance_weighted=True, samples=3)),
    "soft-free-bits": Experiment(objective=ObjectiveConfig(kl_weight=SoftFreeBitsWeight(target_nats=4.0))),
    "geco": Experiment(objective=ObjectiveConfig(kl_weight=GECOWeight(goal_nats=90.0))),
    "cyclical": Experiment(
        objective=ObjectiveConfig(kl_weight=CyclicalWeight(total_steps=7, cycles=2), free_bits_per_dimension_nats=0.1),
        training=Training(plateau=None, clip_norm=None, optimizer="adamax"),
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_json_and_back(name):
    experiment = EXPERIMENTS[name]
    text = experiment.to_json()
    assert from_json(text, "there") == experiment
    assert from_json(text.encode(), "there").to_json() == text


EARLIER = {"dataset", "path", "binarisation", "evaluation_draws", "validation_size", "split_seed"}
"""Fields of `data` in experiments of earlier versions."""


def test_experiments_keep_the_bytes_that_they_had_before_pictures_were_prepared():
    """Hashes of measurements are of these bytes."""
    assert json.loads(Experiment().to_json())["data"].keys() == EARLIER
    assert Experiment().model_dump()["data"].keys() == EARLIER


def test_terms_of_the_objective_are_recorded_where_they_have_an_effect():
    """Later fields, as above; the file of an earlier version has all others."""
    earlier = json.loads((Path(__file__).parents[1] / "formats" / "run-0.1" / "experiment.json").read_text())
    assert set(Experiment().model_dump()["objective"]) - {"regulariser"} == set(earlier["objective"])
    gap = with_changes(Experiment(), objective__density_gap_weight=1.0)
    assert set(gap.model_dump()["objective"]) - set(Experiment().model_dump()["objective"]) == {"density_gap_weight"}


@pytest.mark.parametrize(
    ("field", "value", "size"),
    [
        ("resize", "32", (32, 32)),
        ("resize", "32x48", (32, 48)),
        ("resize", 32, (32, 32)),
        ("resize", (32, 48), (32, 48)),
        ("fit", "pad", None),
        ("colours", "grey", None),
        ("background", 0, None),
        ("flip", True, None),
        ("shift", 2, None),
    ],
)
def test_a_preparation_is_recorded(field, value, size):
    experiment = with_changes(Experiment(), data__dataset="own", data__path="here", **{f"data__{field}": value})
    text = experiment.to_json()
    assert json.loads(text)["data"].keys() == EARLIER | {field}
    assert from_json(text, "there") == experiment
    assert from_json(text, "there").to_json() == text
    data = experiment.data
    made = data.preparation()
    assert made.size == size
    assert (made.fit, made.colours, made.background) == (data.fit, data.colours, data.background)
    assert (data.protocol().flip, data.protocol().shift) == (data.flip, data.shift)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"resize": "wide"},
            r"data\.resize: expected a side such as 32, or height and width such as 32x48, got 'wide'",
        ),
        ({"resize": 0}, r"data\.resize: expected a side such as 32, .* got 0"),
        ({"resize": (3, 4, 5)}, r"data\.resize: expected a side such as 32, .* got \(3, 4, 5\)"),
        ({"background": 256}, r"data\.background: .* 255, got 256"),
        ({"shift": -1}, r"data\.shift: .* 0, got -1"),
        ({"dataset": "mnist", "resize": 32}, r"data: resize: is for dataset own, got mnist, .* leave it out"),
        ({"dataset": "mnist", "colours": "grey"}, r"data: colours: is for dataset own"),
    ],
)
def test_a_preparation_that_cannot_be_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        with_changes(Experiment(), **{"data__dataset": "own"} | {f"data__{name}": x for name, x in changes.items()})


def test_an_experiment_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Experiment().seed = 1  # pyright: ignore[reportAttributeAccessIssue] - that is the point


REFUSED = {
    "unknown field": (
        {"objective__diversity_weigth": 1.0},
        r"^objective\.diversity_weigth: there is no such field; see",
    ),
    "unknown top field": ({"sed": 1}, r"^sed: there is no such field"),
    "wrong type": ({"training__steps": "many"}, r"^training\.steps: expected a valid integer.*, got 'many'\.$"),
    "a fraction of a step": (
        {"training__steps": 1.5},
        r"^training\.steps: expected a valid integer.*, got 1\.5\.$",
    ),
    "unknown word": (
        {"training__optimizer": "sgd"},
        r"^training\.optimizer: expected 'adam' or 'adamax', got 'sgd'",
    ),
    "unknown kind": ({"encoder__kind": "vit"}, r"^encoder: .*'vit'.*'mlp', 'convnet', 'resnet'"),
    "field of another kind": ({"encoder__features": 3}, r"^encoder\.features: there is no such field"),
    "unknown scale": (
        {"scale": "tiny"},
        r"^scale: expected 'smoke', 'minutes', 'hours', 'days' or 'paper', got 'tiny'",
    ),
    "negative diversity": (
        {"objective__diversity_weight": -1.0},
        r"^objective\.diversity_weight: expected at least 0, got -1\.0\.$",
    ),
    "negative smoothness": (
        {"objective__smoothness_weight": -0.5},
        r"^objective\.smoothness_weight: expected at least 0, got -0\.5\.$",
    ),
    "negative KL weight": (
        {"objective__kl_weight__value": -2.0},
        r"^objective\.kl_weight\.value: expected at least 0, got -2\.0\.$",
    ),
    "infinite weight": (
        {"objective__diversity_weight": float("inf")},
        r"^objective\.diversity_weight: .*finite number, got inf",
    ),
    "latent_dim 0": ({"latent_dim": 0}, r"^latent_dim: expected at least 1, got 0\.$"),
    "no steps": ({"training__steps": 0}, r"^training\.steps: expected at least 1, got 0\.$"),
    "batch of one": ({"training__batch_size": 1}, r"^training\.batch_size: expected at least 2, got 1\.$"),
    "one validation image": (
        {"training__validation_images": 1},
        r"^training\.validation_images: expected at least 2, got 1\.$",
    ),
    "one label": ({"evaluation__label_counts": (1,)}, r"^evaluation\.label_counts\.0: expected at least 2, got 1\.$"),
    "no layers": ({"encoder__channels": ()}, r"^encoder\.channels: tuple should have at least 1 item"),
    "layer of nothing": ({"encoder__channels": (4, 0)}, r"^encoder\.channels\.1: expected at least 1, got 0\.$"),
    "negative seed": ({"seed": -1}, r"^seed: expected at least 0, got -1\.$"),
    "learning rate 0": (
        {"training__learning_rate": 0.0},
        r"^training\.learning_rate: expected more than 0, got 0\.0\.$",
    ),
    "learning rate that overflows": (
        {"training__learning_rate": 1e38},
        r"^training\.learning_rate: expected at most 1000000, got 1e\+38",
    ),
    "averaging 1": ({"training__averaging": 1.0}, r"^training\.averaging: expected less than 1, got 1\.0\.$"),
    "beta": ({"training__betas": (0.9, 1.5)}, r"^training\.betas\.1: expected less than 1, got 1\.5\.$"),
    "schedule longer than the run": (
        {"objective__kl_weight": {"kind": "linear", "warm_up_steps": 41}},
        r"^objective\.kl_weight: its schedule of 41 steps is longer than the run of 40 \(training\.steps\).*shorten",
    ),
    "cycles longer than the run": (
        {"objective__kl_weight": {"kind": "cyclical", "total_steps": 400}},
        r"^objective\.kl_weight: its schedule of 400 steps is longer than the run of 40",
    ),
    "schedule without its length": (
        {"objective__kl_weight": {"kind": "linear"}},
        r"^objective\.kl_weight\.warm_up_steps: this field is required\.$",
    ),
    "free bits per dimension of a flow": (
        {"objective__free_bits_per_dimension_nats": 0.1},
        r"^objective\.free_bits_per_dimension_nats: needs a factorised prior .*got flow; use objective\.free_bits_nats",
    ),
    "autoencoder with weights": (
        {"objective__autoencoder": True},
        r"^objective: autoencoder: has only a reconstruction term; leave the other fields at their defaults\.$",
    ),
    "delta head with a flow": (
        {"encoder__head": {"kind": "delta"}},
        r"^encoder\.head: delta bounds the KL to N\(0, I\) only, got prior flow; choose prior standard-normal, or head gaus",
    ),
    "pseudo-inputs in the statistics of the batch": (
        {"encoder__head": {"kind": "batch-norm"}, "prior": {"kind": "vamp"}},
        r"^prior: vamp passes its pseudo-inputs through the encoder, whose head batch-norm would include them in the bat",
    ),
    "refinement of a delta head": (
        {"encoder__head": {"kind": "delta"}, "prior": {"kind": "standard-normal"}, "encoder__refinement_steps": 1},
        r"^encoder\.refinement_steps: moves posteriors away from those that head delta and prior standard-normal define",
    ),
    "refinement with a prior made of posteriors": (
        {"prior": {"kind": "vamp"}, "encoder__refinement_steps": 1},
        r"^encoder\.refinement_steps: .* head gaussian and prior vamp .* a prior that does not use the encoder, or set",
    ),
    "free bits per dimension of an AR(1)": (
        {"objective__free_bits_per_dimension_nats": 0.1, "prior": {"kind": "ar1"}},
        r"^objective\.free_bits_per_dimension_nats: needs a factorised prior .*got ar1",
    ),
    "density gap of the dimensions of a flow": (
        {"objective__density_gap_weight": 1.0},
        r"^objective\.density_gap_over: dimensions needs a factorised prior .*, got flow; set it to total\.$",
    ),
    "decoded images in the statistics of the batch": (
        {"objective__latent_reconstruction_weight": 1.0, "encoder__head": {"kind": "du"}},
        r"^objective\.latent_reconstruction_weight: encodes decoded images, which head du would include in the batch stat",
    ),
    "decoded images without a class": (
        {"objective__latent_reconstruction_weight": 1.0, "data__condition_classes": 10},
        r"^data\.condition_classes: objective\.latent_reconstruction_weight has no place for a condition, got one of 10 cl",
    ),
    "refined posteriors of decoded images": (
        {"objective__latent_reconstruction_weight": 1.0, "encoder__refinement_steps": 1},
        r"^objective\.latent_reconstruction_weight: encodes decoded images, which have no likelihood to refine their post",
    ),
    "codes that come back from pixels without a mean": (
        {
            "objective__latent_reconstruction_weight": 1.0,
            "data__binarisation": "levels",
            "data__evaluation_draws": 1,
        },
        r"^objective\.latent_reconstruction_weight: needs the mean of p\(x\|z\), which pixels of a discretised-logistic-mixt",
    ),
    "correlation 1": (
        {"prior": {"kind": "ar1", "correlation": 1.0}},
        r"^prior\.correlation: expected less than 1, got 1\.0\.$",
    ),
    "rate of a head": (
        {"encoder__head": {"kind": "delta", "rate_nats": 0.0}},
        r"^encoder\.head\.rate_nats: expected more than 0, got 0\.0\.$",
    ),
    "unknown head": ({"encoder__head": {"kind": "vmf"}}, r"^encoder\.head: .*'vmf'.*'gaussian', 'delta', 'batch-norm'"),
    "no encoder steps": (
        {"training__inference": {"kind": "lagging", "encoder_steps": 0}},
        r"^training\.inference\.encoder_steps: expected at least 1, got 0\.$",
    ),
    "IWAE of one sample": (
        {"objective__importance_weighted": True},
        r"^objective: importance_weighted: with 1 sample the bound is the ELBO; set samples to 2 or more\.$",
    ),
    "IWAE with a weight of the KL": (
        {"objective": {"importance_weighted": True, "samples": 5, "kl_weight": {"kind": "constant", "value": 0.5}}},
        r"^objective: importance_weighted: the bound has no KL of its own; leave kl_weight at its default\.$",
    ),
    "IWAE with free bits": (
        {"objective": {"importance_weighted": True, "samples": 5, "free_bits_nats": 0.5}},
        r"^objective: importance_weighted: .*; leave free_bits_nats at its default\.$",
    ),
    "two floors": (
        {"objective": {"free_bits_nats": 1.0, "kl_weight": {"kind": "soft-free-bits", "target_nats": 2.0}}},
        r"^objective: kl_weight: soft-free-bits controls the KL itself; set the free-bits floors to 0, or the kind to",
    ),
    "GECO without a goal": (
        {"objective__kl_weight": {"kind": "geco"}},
        r"^objective\.kl_weight\.goal_nats: this field is required\.$",
    ),
    "static images drawn five times": (
        {"data__binarisation": "static"},
        r"^data: evaluation_draws: static binarisation draws every image once, expected 1, got 5; set it to 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_in_one_sentence(case):
    changes, message = REFUSED[case]
    with pytest.raises(InputError) as refusal:
        with_changes(recipe("mae-digits-smoke"), **changes)
    assert re.search(message, str(refusal.value))
    assert "\n" not in str(refusal.value)
    assert "pydantic" not in str(refusal.value)


@pytest.mark.parametrize("case", sorted(REFUSED.keys() - {"infinite weight"}))  # JSON has no infinity
def test_json_is_refused_by_the_same_sentence(case):
    changes, message = REFUSED[case]
    tree = recipe("mae-digits-smoke").model_dump(mode="json")
    for path, value in changes.items():
        *groups, field = path.split("__")
        node = tree
        for group in groups:
            node = node[group]
        node[field] = value
    with pytest.raises(InputError) as refusal:
        from_json(json.dumps(tree), "runs/a/experiment.json")
    assert re.search(message.replace("^", "^runs/a/experiment.json: ", 1), str(refusal.value))


@pytest.mark.parametrize("text", ["", "{", "[]x", b"\xff\xfe\x00"])
def test_what_is_no_json_is_refused_in_one_sentence(text):
    with pytest.raises(InputError, match=r"^there: not the JSON of an experiment \(") as refusal:
        from_json(text, "there")
    assert "\n" not in str(refusal.value)


def test_a_list_is_no_experiment():
    with pytest.raises(InputError, match=r"^there: "):
        from_json("[]", "there")


def test_errors_are_raised_by_the_constructors_too():
    with pytest.raises(ValidationError) as refusal:
        ObjectiveConfig(diversity_weight=-1)
    assert in_words(refusal.value) == "diversity_weight: expected at least 0, got -1."


def test_static_binarisation_with_one_draw_is_taken():
    assert Data(binarisation="static", evaluation_draws=1).evaluation_draws == 1


BUILD_REFUSED = {
    "AR(1) of one number": (
        Experiment(latent_dim=1, prior=AR1Prior()),
        (1, 28, 28),
        "an AR\\(1\\) prior needs a sequence of at least 2 steps, got 1",
    ),
    "AR(1) of unequal steps": (
        Experiment(latent_dim=32, prior=AR1Prior(length=5)),
        (1, 28, 28),
        "a code of 32 numbers cannot be read as 5 equal steps; give a divisor of 32",
    ),
    "too small": (Experiment(encoder=ConvNetEncoder(channels=(4, 4, 4))), (1, 4, 4), "at least 5x5 pixels, got 4x4"),
}


@pytest.mark.parametrize("case", BUILD_REFUSED)
def test_build_refuses_images_that_parts_cannot_take(case):
    experiment, image_shape, message = BUILD_REFUSED[case]
    with pytest.raises(InputError, match=message):
        experiment.build(image_shape)


@pytest.mark.parametrize("prior", [StandardNormalPrior(), FlowPrior(blocks=1, hidden_features=8)])
@pytest.mark.parametrize("name", ["vae-digits-smoke", "mae-digits-smoke"])
def test_weights_are_a_function_of_the_seed(name, prior):
    def first(seed: int) -> list:
        vae = with_changes(recipe(name), seed=seed, prior=prior.model_dump()).build((1, 8, 8))
        return [parameter.tolist() for parameter in vae.parameters()]

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_objectives_have_the_terms_that_their_weights_ask_for():
    def terms(**fields) -> list[str]:
        return list(ObjectiveConfig(**fields).build().terms)

    assert terms() == ["reconstruction", "kl"]
    assert terms(diversity_weight=1.0) == ["reconstruction", "kl", "diversity"]
    assert terms(smoothness_weight=1.0) == ["reconstruction", "kl", "smoothness"]
    assert terms(autoencoder=True) == ["reconstruction"]
    assert terms(mmd_weight=1.0, mpd_weight=0.1) == ["reconstruction", "kl", "mmd", "mpd"]
    assert terms(total_correlation_weight=1.0) == ["reconstruction", "kl", "total_correlation"]
    assert terms(density_gap_weight=1.0) == ["reconstruction", "kl", "density_gap"]
    assert terms(latent_reconstruction_weight=1.0) == ["reconstruction", "kl", "latent_reconstruction"]
    assert terms(importance_weighted=True, samples=3, mmd_weight=1.0) == ["importance_weighted", "mmd"]
    assert not ObjectiveConfig(autoencoder=True).build().noise


@pytest.mark.parametrize("name", ["colour", "colour-resnet"])
def test_a_step_of_a_colour_model(name):
    """Initialised by data, one gradient step of MAE on 8x8 images of 256 levels; the loss is its terms and falls."""
    torch.manual_seed(0)
    experiment = from_json(EXPERIMENTS[name].to_json(), "there")
    x = torch.randint(256, (6, 3, 8, 8)) / 127.5 - 1
    vae, objective = experiment.build((3, 8, 8)), experiment.objective.build()
    vae.initialise(x)
    optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = objective(vae.train(), x)
        assert loss.forward.q.event_shape == (4, 2, 2)
        assert set(loss.terms) == {"reconstruction", "kl", "diversity", "smoothness"}
        loss.total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
        optimizer.step()
        losses.append(loss.total.item())
    assert losses[-1] < losses[0]
    images = vae.eval().sample(2)
    assert images.shape == vae.reconstruct(x[:2]).shape == (2, 3, 8, 8)
    assert vae.encode(x).shape == (6, 4, 2, 2)
    assert vae.importance_weighted_bound(x, 3).shape == (6,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"decoder": PixelCNNDecoder()},
            "decoder: pixelcnn takes codes that are vectors, but encoder densenet makes maps",
        ),
        ({"prior": FlowPrior()}, "prior: flow takes codes that are vectors, but encoder densenet makes maps"),
        (
            {"encoder": ResNetEncoder()},
            r"decoder: pixelcnn\+\+ takes codes that are maps, but encoder resnet makes vectors",
        ),
    ],
)
def test_parts_for_vectors_and_maps_do_not_mix(change, message):
    with pytest.raises(InputError, match=message):
        with_changes(COLOUR, **{part: config.model_dump() for part, config in change.items()})


LEVELS = {"data__binarisation": "levels", "data__evaluation_draws": 1}
DECODERS = {
    kind: (part, {"kind": kind}) for part in get_args(DecoderConfig) for kind in [part.model_fields["kind"].default]
}


VALUES_OF = {
    "dynamic": torch.tensor([0.0, 1.0]),
    "static": torch.tensor([0.0, 1.0]),
    "levels": torch.tensor([-1.0, 1 / 127.5 * 100 - 1, 1.0]),
    "intensities": torch.tensor([0.0, 0.3, 1.0]),
}
"""Values of pixels that each binarisation makes."""


@pytest.mark.parametrize("law", [None, *MODELLED])
@pytest.mark.parametrize("binarisation", VALUES_OF)
@pytest.mark.parametrize("kind", DECODERS)
def test_a_protocol_has_a_decoder_whose_pixels_have_its_values_or_is_refused(kind, binarisation, law):
    """Every triple. What is taken is built with a support that holds the protocol's values; the others name what fits."""
    part, decoder = DECODERS[kind]
    base = recipe("vae-digits-smoke") if part.codes == "vectors" else COLOUR
    data = {"data__binarisation": binarisation, "data__evaluation_draws": 1}
    values = Data(binarisation=binarisation, evaluation_draws=1).pixel_values
    changes = data | {"decoder": decoder | ({"pixels": law} if law else {})}
    if law is None or values in MODELLED[law]:
        vae = with_changes(base, **changes).build((1, 8, 8))
        for value in VALUES_OF[binarisation]:
            vae.check_images(torch.full((1, 1, 8, 8), value.item()))
        with pytest.raises(InputError, match=r"image 0 has the value nan"):
            vae.check_images(torch.full((1, 1, 8, 8), torch.nan))
        return
    with pytest.raises(
        InputError, match=rf"^decoder.pixels: {law} is .*data.binarisation {binarisation} makes"
    ) as refusal:
        with_changes(base, **changes)
    fitting = str(refusal.value).split("; choose ")[1].split(", or another")[0].split(", ")
    assert fitting == [name for name, modelled in MODELLED.items() if values in modelled]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [kind for kind, (part, _) in DECODERS.items() if part.codes == "maps"])
def test_decoders_of_maps_take_any_number_of_channels(kind, channels):
    e = with_changes(
        COLOUR, decoder=DECODERS[kind][1], encoder=DenseNetEncoder(growths=(3, 2, 2), steps=(1, 1, 1)).model_dump()
    )
    vae = e.build((channels, 8, 8)).eval()
    x = torch.randint(256, (4, channels, 8, 8)) / 127.5 - 1
    vae.initialise(x)
    assert vae.elbo(x).isfinite().all()
    vae.check_images(vae.sample(2))


@pytest.mark.parametrize("levels", [2, 16, 2**16])
@pytest.mark.parametrize("law", ["discretised-logistic", "discretised-logistic-mixture", "categorical"])
def test_the_number_of_levels_reaches_the_law(law, levels):
    if law == "categorical" and levels > 256:
        levels = 512  # a logit for each of 65,536 levels of each pixel is more than the size limit allows
    e = with_changes(recipe("vae-digits-smoke"), **LEVELS, data__levels=levels, decoder={"kind": "mlp", "pixels": law})
    vae = e.build((1, 8, 8))
    vae.check_images(torch.randint(levels, (2, 1, 8, 8)) / ((levels - 1) / 2) - 1)
    with pytest.raises(InputError, match=rf"expected images of the {levels} levels k / .*, but image 0 has"):
        vae.check_images(torch.full((1, 1, 8, 8), 1 - 1 / (levels - 1)))


def test_experiments_of_earlier_versions_have_the_laws_that_they_had():
    """Their files name neither the levels nor, for PixelCNNs and decoders of maps, the distribution of pixels."""
    for name, law in {
        "vae-pixelcnn-digits-smoke": "bernoulli",
        "vae-digits-smoke": "bernoulli",
        "mae-cifar10-paper": "discretised-logistic-mixture",
        "vae-cifar10-paper": "discretised-logistic-mixture",
    }.items():
        old = recipe(name).model_dump(mode="json")
        assert "levels" not in old["data"]
        del old["decoder"]["pixels"]
        e = Experiment.model_validate(old)
        assert e == recipe(name)
        assert e.decoder.pixel_distribution(e.data.pixel_values) == law
        assert e.decoder.law(e.data.pixel_values, e.data.levels) == pixel_law(law)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 5, 6), (3, 12, 12)], ids=str)
def test_independent_pixels_of_levels_are_trained_and_drawn(shape):
    torch.manual_seed(0)
    vae = with_changes(recipe("vae-digits-smoke"), **LEVELS).build(shape)
    x = torch.randint(256, (12, *shape)) / 127.5 - 1
    vae.initialise(x)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(-vae.elbo(x).mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    vae.check_images(vae.sample(3))
    assert vae.reconstruct(x).shape == x.shape
    assert vae.reconstruct(x).abs().max() <= 1


@pytest.mark.parametrize("kind", ["mlp", "convnet", "resnet", "densenet", "colour-resnet"])
def test_the_bound_of_the_log_variance_reaches_every_encoder(kind):
    (part,) = (part for part in get_args(EncoderConfig) if part().kind == kind)
    shape = (3, 16, 16)
    assert part(log_variance_limit=0.5).build(shape, 4).log_variance_limit == 0.5
    assert part().build(shape, 4).log_variance_limit == (7.0 if part.codes == "maps" else None)


@pytest.mark.parametrize("head", [DeltaHead(rate_nats=2.0), BatchNormHead(scale=0.4), DUHead(floor=0.5)])
@pytest.mark.parametrize("kind", ["mlp", "convnet", "resnet", "densenet", "colour-resnet"])
def test_every_encoder_can_have_every_head(kind, head):
    (part,) = (part for part in get_args(EncoderConfig) if part().kind == kind)
    encoder = part(head=head).build((3, 16, 16), 4)
    assert type(encoder.head).__name__ == type(head).__name__
    q = encoder(2 * torch.rand(3, 3, 16, 16) - 1)
    assert q.event_shape == part().latent_shape((3, 16, 16), 4)


def test_pseudo_inputs_have_the_range_of_the_data():
    colour = with_changes(COLOUR, prior={"kind": "vamp", "components": 5})
    assert colour.build((3, 8, 8)).prior.image_range == (-1.0, 1.0)
    binary = with_changes(recipe("vae-digits-smoke"), prior={"kind": "vamp", "components": 5})
    assert binary.build((1, 8, 8)).prior.image_range == (0.0, 1.0)
