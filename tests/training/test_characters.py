from __future__ import annotations

import pytest
import torch

from ofa_tvm.training.characters import BLOCK, CharacterImages, ImageSet, normalise
from ofa_tvm.training.glyphs import CLASS_NAMES, FONTS, glyph_atlas


def test_a_block_depends_on_seed_and_number_alone():
    images, labels = CharacterImages(5).block(3, 32)
    torch.manual_seed(99)
    for index in (0, 4, 1):
        CharacterImages(5).block(index, 36)
    again, labels_again = CharacterImages(5).block(3, 32)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)


def test_seeds_and_numbers_give_different_images():
    images = [CharacterImages(seed).block(index, 32)[0] for seed, index in ((5, 0), (5, 1), (6, 0))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (images[a].float() - images[b].float()).abs().mean() > 20


def test_the_stream_stays_what_shipped_accuracies_were_measured_on():
    images, labels = CharacterImages(1).block(0, 32)
    assert labels[:8].tolist() == [24, 38, 17, 36, 17, 12, 30, 11]
    torch.testing.assert_close(
        images[:4].float().mean((1, 2, 3)), torch.tensor([106.8, 104.1, 147.7, 126.9]), atol=0.5, rtol=0
    )


@pytest.mark.parametrize("resolution", [17, 32, 33, 64, 128])
def test_any_resolution_shows_the_same_scene(resolution):
    images, labels = CharacterImages(2).block(0, resolution)
    assert images.dtype == torch.uint8
    assert images.shape == (BLOCK, 3, resolution, resolution)
    reference, reference_labels = CharacterImages(2).block(0, 64)
    assert torch.equal(labels, reference_labels)
    coarse, coarse_reference = (
        torch.nn.functional.adaptive_avg_pool2d(batch.float(), 4).flatten() for batch in (images, reference)
    )
    assert torch.corrcoef(torch.stack([coarse, coarse_reference]))[0, 1] > 0.95


def test_labels_are_balanced():
    labels = torch.cat([CharacterImages(3).block(index, 17)[1] for index in range(40)])
    counts = torch.bincount(labels, minlength=len(CLASS_NAMES))
    expected = len(labels) / len(CLASS_NAMES)
    assert len(counts) == len(CLASS_NAMES)
    assert counts.min() > 0.4 * expected
    assert counts.max() < 1.6 * expected


def test_easy_images_are_those_without_noise():
    (easy, easy_labels), (hard, hard_labels) = (CharacterImages(4, difficulty).block(0, 64) for difficulty in (0, 1))
    assert torch.equal(easy_labels, hard_labels)
    curvature = [batch[:, :, :3, :16].float().diff(n=2, dim=3).abs().mean() for batch in (easy, hard)]
    assert curvature[0] < 2  # quantisation alone
    assert curvature[1] > 10


def test_an_image_set_is_the_start_of_the_stream():
    images = ImageSet.render(7, 100, 32)
    assert images.images.shape == (100, 3, 32, 32)
    assert torch.equal(images.images[64:], CharacterImages(7).block(1, 32)[0][:36])
    batches = list(images.batches(40))
    assert [len(labels) for _, labels in batches] == [40, 40, 20]
    assert torch.equal(torch.cat([batch for batch, _ in batches]), normalise(images.images))


def test_normalised_images():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    normalised = normalise(images)
    assert normalised.dtype == torch.float32
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert normalised[0].unique().tolist() == [-2.0]
    assert normalised[1].unique().tolist() == [2.0]


def test_every_font_draws_every_character_in_its_own_way():
    sharp = glyph_atlas()[0]
    assert sharp.shape[:2] == (len(CLASS_NAMES), len(FONTS))
    for font in range(len(FONTS)):
        glyphs = sharp[:, font].flatten(1)
        assert glyphs.amax(1).min() > 0.9
        distances = torch.cdist(glyphs, glyphs, p=1) + 1e9 * torch.eye(len(glyphs))
        assert distances.min() > 1, FONTS[font]
