"""Tests of the detector: shapes, scales, modes, training, export."""

import pytest
import timm
import torch

from dkp.errors import InputError
from dkp.fields import ChartField, EmbeddingField
from dkp.models import Detector

SMALL = {"width": 8, "levels": 4}


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 32), (40, 56)])
def test_field_has_the_stride(stride, size):
    field = Detector(stride=stride, **SMALL)(torch.rand(2, 3, *size))
    assert isinstance(field, EmbeddingField)
    assert field.stride == stride
    assert field.size == (size[0] // stride, size[1] // stride)
    assert field.coordinate.shape == (2, 3, *field.size)
    assert field.coordinate.dtype == field.foreground.dtype == torch.float32


def test_charts():
    field = Detector(representation="charts", parts=5, **SMALL)(torch.rand(2, 3, 32, 32))
    assert isinstance(field, ChartField)
    assert field.part_logits.shape == (2, 6, 16, 16)
    assert field.uv.shape == (2, 5, 2, 16, 16)
    uv = field.uv.detach()
    assert 0 <= float(uv.min()) <= float(uv.max()) <= 1


def test_coordinates_are_in_units_of_the_surface():
    torch.manual_seed(0)
    near = Detector(**SMALL).eval()
    far = Detector(surface_centre=(1.0, 2.0, 3.0), surface_half_extent=(2.0, 4.0, 8.0), **SMALL).eval()
    far.load_state_dict({k: v for k, v in near.state_dict().items() if "surface" not in k}, strict=False)
    image = torch.rand(1, 3, 32, 32)
    raw = near(image).coordinate
    expected = torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1) + torch.tensor([2.0, 4, 8]).view(1, 3, 1, 1) * raw
    torch.testing.assert_close(far(image).coordinate, expected)
    assert (far(image).coordinate.mean((0, 2, 3)) - torch.tensor([1.0, 2, 3])).abs().max() < 2.0


def test_coordinates_are_not_squashed():
    detector = Detector(**SMALL).eval()
    with torch.no_grad():
        detector.coordinate_head[-1].bias.fill_(7.0)
    assert 6 < float(detector(torch.rand(1, 3, 32, 32)).coordinate.mean()) < 8


def test_flat_surfaces_have_a_thickness():
    detector = Detector(surface_half_extent=(0.1, 0.2, 0.0), **SMALL)
    assert detector.surface_half_extent.tolist() == pytest.approx([0.1, 0.2, 0.2])
    for bad in ((0.0, 0.0, 0.0), (1.0, -1.0, 1.0), (1.0, 1.0), (1.0, float("nan"), 1.0)):
        with pytest.raises(InputError, match="surface_half_extent"):
            Detector(surface_half_extent=bad, **SMALL)


def test_group_norm_is_the_same_in_training_and_evaluation():
    detector = Detector(norm="group", **SMALL)
    image = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(detector.train()(image).coordinate, detector.eval()(image).coordinate)
    alone = detector(image[:1]).coordinate
    torch.testing.assert_close(alone, detector(image).coordinate[:1], atol=1e-5, rtol=1e-4)


def test_batch_norm_reaches_its_training_output():
    torch.manual_seed(0)
    detector = Detector(norm="batch", **SMALL)
    image = torch.rand(8, 3, 32, 32)
    assert not torch.allclose(detector.train()(image).foreground, detector.eval()(image).foreground, atol=1e-3)
    detector.train()
    with torch.no_grad():
        for _ in range(150):
            trained = detector(image).foreground
    torch.testing.assert_close(detector.eval()(image).foreground, trained, atol=0.02, rtol=0.1)


def test_memory_format_does_not_matter():
    detector = Detector(**SMALL).eval()
    image = torch.rand(2, 3, 32, 32)
    other = detector(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(detector(image).coordinate, other.coordinate, atol=1e-5, rtol=1e-4)


def test_it_learns_where_a_pixel_is():
    """A few steps suffice to overfit position in the image: gradients flow through the whole network."""
    torch.manual_seed(0)
    detector = Detector(**SMALL)
    image = torch.rand(4, 3, 32, 32)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    target = torch.stack([x, y, 0 * x]).expand(4, -1, -1, -1)
    optimizer = torch.optim.Adam(detector.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        field = detector(image)
        loss = (field.coordinate - target).abs().mean() + field.foreground.sigmoid().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in detector.parameters())


def test_bfloat16_autocast_gives_float32_coordinates():
    detector = Detector(surface_centre=(0.0, 1.0, 0.0), **SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        field = detector(torch.rand(1, 3, 32, 32))
    assert field.coordinate.dtype == torch.float32
    assert len(field.coordinate[:, 1].unique()) > 50, "1 + x in bfloat16 would leave a handful of values"


def test_size_of_the_default():
    assert 0.7e6 < sum(one.numel() for one in Detector().parameters()) < 1.2e6


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "convnext_atto"])
def test_timm_encoders(name):
    field = Detector(name)(torch.rand(2, 3, 64, 64))
    assert field.size == (32, 32)


def test_timm_encoder_at_a_coarser_stride():
    detector = Detector("test_resnet", stride=4)
    assert detector(torch.rand(2, 3, 64, 64)).size == (16, 16)
    assert len(detector.body.lateral) < len(Detector("test_resnet", stride=2).body.lateral)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet_nonesuch"}, r'encoder is .resnet_nonesuch. where "unet" or the name of a timm model'),
        ({"representation": "points"}, "representation is 'points'"),
        ({"stride": 3}, "stride is 3 where a power of two"),
        ({"stride": 16}, "stride is 16 where a power of two up to 8"),
        ({"levels": 9}, "levels is 9"),
        ({"norm": "layer"}, "norm is 'layer'"),
        ({"pretrained": True}, "pretrained, encoder_weights and frozen are for timm encoders"),
        ({"encoder": "test_resnet", "stride": 64}, "feature strides"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        Detector(**options)


def test_bad_images():
    with pytest.raises(ValueError, match=r"shape \(1, 3, 33, 32\) where"):
        Detector(**SMALL)(torch.rand(1, 3, 33, 32))


def test_export():
    detector = Detector(**SMALL).eval()
    image = torch.rand(1, 3, 32, 32)

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.detector = detector

        def forward(self, images):
            return self.detector.forward_tensors(images)

    program = torch.export.export(Plain(), (image,))
    foreground, coordinate = program.module()(image)
    torch.testing.assert_close(coordinate, detector(image).coordinate)
    torch.testing.assert_close(foreground, detector(image).foreground)


def test_uncertainty():
    torch.manual_seed(0)
    detector = Detector(uncertainty=True, **SMALL)
    field = detector(torch.rand(2, 3, 32, 32))
    assert field.log_scale.shape == field.coordinate.shape
    assert abs(float(field.log_scale.exp().mean()) - 0.1) < 0.05  # near 10 cm before training
    assert Detector(**SMALL)(torch.rand(1, 3, 32, 32)).log_scale is None


def test_frozen_layers_stay():
    torch.manual_seed(0)
    detector = Detector(encoder="test_resnet", frozen=4, norm="batch").train()
    before = {name: value.clone() for name, value in detector.body.backbone.state_dict().items()}
    optimizer = torch.optim.SGD(detector.parameters(), 0.1)
    detector(torch.rand(4, 3, 64, 64)).coordinate.square().sum().backward()
    optimizer.step()
    after = detector.body.backbone.state_dict()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"layer2", "layer3", "layer4"}
    assert set(before) - {"conv1.weight"} >= {name for name in before if name.startswith(("bn1", "layer1"))}


def test_encoder_weights_by_other_names(tmp_path):
    """A file whose tensors have other names is read in order, where all shapes agree."""
    torch.manual_seed(1)
    model = timm.create_model("test_resnet")
    renamed = {f"their_{index}": value for index, value in enumerate(model.state_dict().values())}
    torch.save(renamed, tmp_path / "theirs.pth")
    torch.save({name: value for name, value in renamed.items() if name != "their_3"}, tmp_path / "fewer.pth")
    detector = Detector("test_resnet", encoder_weights=str(tmp_path / "theirs.pth"))
    state = model.state_dict()
    for name, value in detector.body.backbone.state_dict().items():
        torch.testing.assert_close(value, state[name])
    with pytest.raises(InputError, match="do not fit"):
        Detector("test_resnet", encoder_weights=str(tmp_path / "fewer.pth"))


def test_images_are_normalised_as_the_encoder_was_trained():
    assert Detector("test_resnet").image_mean.flatten().tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert Detector(**SMALL).image_mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
