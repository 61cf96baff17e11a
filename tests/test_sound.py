"""The program that trains an autoencoder of sound: its sounds, its measures against closed forms, and its trainings."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import pytest
import torch

from tools import sound
from tools.sound import (
    RATE,
    SEGMENT,
    WAYS,
    Autoencoder,
    Settings,
    compare,
    high_energy,
    power,
    read_wave,
    relative_error,
    resampled,
    segments_of,
    spectral_distance,
    spoken,
    tones,
    write_wave,
)


def sine(frequency: float, seconds: float = 0.5, rate: int = RATE) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(seconds * rate, dtype=torch.float64) / rate).float()


def test_a_tone_has_its_energy_at_multiples_of_its_pitch():
    made = tones(3, 0, RATE)
    assert made.shape == (3, RATE)
    torch.testing.assert_close(made.abs().amax(1), torch.full((3,), 0.5))
    for one in made:
        spectrum = torch.fft.rfft(one[RATE // 5 :] * torch.hann_window(len(one) - RATE // 5)).abs().square()
        hertz = torch.arange(len(spectrum)) * RATE / (len(one) - RATE // 5)
        pitch = hertz[spectrum[: 800 * 4 // 5].argmax()]  # the strongest is the first
        distance = (hertz / pitch - (hertz / pitch).round()).abs() * pitch
        assert spectrum[distance < 12].sum() > 0.97 * spectrum.sum()
    assert torch.equal(tones(3, 0, RATE), made)
    assert not torch.equal(tones(3, 1, RATE), made)


@pytest.mark.parametrize("rate", [22_050, 8_000])
def test_resampling_keeps_a_sine(rate):
    torch.testing.assert_close(resampled(sine(440, 1.0, rate), rate, RATE), sine(440, 1.0), atol=1e-4, rtol=0)


def test_resampling_leaves_out_what_the_new_rate_cannot_hold():
    assert resampled(sine(9_000, 1.0, 22_050), 22_050, RATE).abs().max() < 1e-4


def test_a_wave_file_is_read_as_it_was_written(tmp_path):
    made = 0.9 * sine(300)
    write_wave(tmp_path / "sine.wav", made)
    samples, rate = read_wave((tmp_path / "sine.wav").read_bytes())
    assert rate == RATE
    torch.testing.assert_close(samples, made, atol=2**-14, rtol=0)


def test_the_power_of_noise_is_its_variance():
    noise = 0.1 * torch.randn(4 * RATE, generator=torch.Generator().manual_seed(0))
    assert power(noise)[1:-1].mean().item() == pytest.approx(0.01, rel=0.02)


def test_half_as_loud_is_six_decibels_away():
    noise = torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert spectral_distance(noise, noise) == 0
    assert spectral_distance(0.5 * noise, noise) == pytest.approx(20 * math.log10(2), rel=1e-3)
    assert high_energy(0.5 * noise, noise) == pytest.approx(-20 * math.log10(2), rel=1e-3)
    assert relative_error(0.5 * noise, noise) == pytest.approx(0.5)
    assert relative_error(torch.zeros(9), torch.ones(9)) == 1


def test_energy_below_the_frequency_is_not_counted():
    low, high = sine(500), sine(4_000)
    assert high_energy(high, low + high) == pytest.approx(0, abs=0.01)
    assert high_energy(low + 0.1 * high, low + high) == pytest.approx(-20, abs=0.1)


def test_segments_are_windows_of_the_sound():
    batch = next(segments_of(torch.arange(2.0 * SEGMENT), 8, seed=0))
    assert batch.shape == (8, 1, SEGMENT)
    assert (batch.diff(dim=-1) == 1).all()
    assert len(batch[:, 0, 0].unique()) == 8


def test_the_autoencoder_has_fewer_numbers_than_the_sound():
    model = Autoencoder(4, 8)
    x = torch.randn(2, 1, 640)
    assert model.encoder(x).shape == (2, 8, 10)
    assert model(x).shape == x.shape


def test_a_whole_comparison_without_speech(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(sound, "sounds", lambda speech: (tones(1, 0).flatten(), {"tones": tones(1, 1, 8000).flatten()}))
    settings = Settings(
        0, speech=False, discriminator_start=1, start=2, steps=3, batch=2, width=2, latent=2, weight=1e4
    )
    compare([settings, replace(settings, seed=1)], tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| tones, {way}" for way in WAYS]
    alone, with_terms = (line.split(" | ")[1:4] for line in lines[2:])
    assert alone != with_terms
    assert (tmp_path / "sound.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.glob("*.wav")} == {
        f"tones-{version.replace(' ', '-')}.wav" for version in ("original", *WAYS)
    }


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng: apt-get install espeak-ng")
def test_speech_is_spoken():
    one, other = (spoken("Seven thick books.", voice) for voice in sound.VOICES[:2])
    for speech in (one, other):
        assert 0.5 * RATE < len(speech) < 3 * RATE
        assert speech.abs().max() == 0.5
    assert len(one) != len(other) or not torch.equal(one, other)
