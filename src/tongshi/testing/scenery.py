"""Four small worlds drawn without any photograph: a crossing by day and by night, a metro hall, the river.

Each world is a panorama whose right edge meets its left edge and whose end meets its beginning, so that a
camera can turn all the way round and a clip can loop without a jump. What moves comes in chains: ``count``
equal things evenly spaced on a lane, each of which reaches the place of the next one as the loop ends.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

WIDTH, HEIGHT = 1280, 448
_FINE = 4  # sprites are drawn this much larger and then reduced, which smooths their edges

Colour = tuple[int, int, int]
Sprite = Image.Image


@dataclass(frozen=True, slots=True)
class Chain:
    """Equal things on one lane. ``laps`` places are passed in one loop (negative: to the left)."""

    poses: tuple[Sprite, ...]
    count: int
    baseline: int
    laps: int = 1
    offset: int = 0
    steps: int = 1  # poses shown one after another, this many times a loop

    def draw(self, picture: Image.Image, phase: float) -> None:
        """Put each member where it is at ``phase`` (0 to 1) of the loop."""
        spacing = WIDTH / self.count
        pose = self.poses[int(phase * self.steps * len(self.poses)) % len(self.poses)]
        for member in range(self.count):
            x = round(self.offset + (member + phase * self.laps) * spacing) % WIDTH
            top = self.baseline - pose.height
            picture.paste(pose, (x, top), pose)
            if x + pose.width > WIDTH:
                picture.paste(pose, (x - WIDTH, top), pose)


@dataclass(frozen=True, slots=True)
class World:
    """A background and what moves before it, from the far lane to the near one."""

    background: Image.Image
    chains: tuple[Chain, ...]

    def draw(self, phase: float) -> Image.Image:
        """The panorama at ``phase`` (0 to 1) of the loop, RGB, WIDTH x HEIGHT."""
        picture = self.background.copy()
        for chain in self.chains:
            chain.draw(picture, phase)
        return picture


def crossing_day() -> World:
    """A street with a zebra crossing, buses, cars, riders and people on both pavements."""
    rng = random.Random(31)
    picture = _gradient((150, 190, 226), (222, 230, 232), HEIGHT)
    draw = ImageDraw.Draw(picture)
    _houses(draw, rng, base=212, lit=0.06)
    draw.rectangle((0, 212, WIDTH, 246), fill=(168, 163, 154))
    _trees(picture, rng, base=240)
    _road(draw, top=246, bottom=404)
    draw.rectangle((0, 404, WIDTH, HEIGHT), fill=(176, 170, 160))
    for x in range(0, WIDTH, 40):
        draw.line((x, 404, x - 22, HEIGHT), fill=(160, 154, 145))
    return World(_grain(picture, 4), _traffic(night=False))


def crossing_night() -> World:
    """The same street under lamps, with lit windows and headlights."""
    day = crossing_day().background
    dark = ImageEnhance.Color(ImageEnhance.Brightness(day).enhance(0.24)).enhance(0.6)
    draw = ImageDraw.Draw(dark, "RGBA")
    rng = random.Random(77)
    for _ in range(420):
        x, y = rng.randrange(0, WIDTH, 11), rng.randrange(60, 200, 12)
        red, _, blue = day.getpixel((x, y))  # type: ignore[misc]
        if blue < red + 12:  # a wall, not the sky
            draw.rectangle((x, y, x + 5, y + 6), fill=(246, 208, 128, rng.choice((90, 160, 230))))
    glow = Image.new("L", (WIDTH, HEIGHT), 0)
    pools = ImageDraw.Draw(glow)
    for x in range(80, WIDTH, 160):
        draw.line((x, 120, x, 246), fill=(70, 72, 78, 255), width=3)
        draw.ellipse((x - 7, 112, x + 7, 122), fill=(255, 240, 200, 255))
        pools.ellipse((x - 90, 236, x + 90, 330), fill=110)
    lit = glow.filter(ImageFilter.GaussianBlur(24))
    dark.paste(Image.new("RGB", dark.size, (236, 196, 130)), (0, 0), lit)
    return World(_grain(dark, 7), _traffic(night=True))


def metro_hall() -> World:
    """An underground hall: pillars, gates, a lit board, people who come and go at three depths."""
    picture = _gradient((206, 210, 212), (186, 190, 194), HEIGHT)
    draw = ImageDraw.Draw(picture)
    for x in range(0, WIDTH, 128):
        draw.rectangle((x + 14, 18, x + 114, 30), fill=(250, 250, 244))
    draw.rectangle((0, 62, WIDTH, 190), fill=(150, 168, 182))
    for x in range(0, WIDTH, 320):
        draw.rectangle((x + 40, 82, x + 250, 128), fill=(24, 60, 120))
        draw.rectangle((x + 52, 92, x + 84, 118), fill=(230, 60, 50))
        draw.rectangle((x + 96, 96, x + 230, 104), fill=(240, 244, 250))
        draw.rectangle((x + 96, 110, x + 200, 116), fill=(190, 206, 230))
    draw.rectangle((0, 190, WIDTH, HEIGHT), fill=(196, 192, 186))
    for row, y in enumerate(range(190, HEIGHT, 22)):
        draw.line((0, y, WIDTH, y), fill=(180, 176, 170))
        for x in range((row % 2) * 20, WIDTH, 40):
            draw.line((x, y, x, y + 22), fill=(180, 176, 170))
    for x in range(20, WIDTH, 64):
        draw.rectangle((x, 196, x + 12, 232), fill=(90, 98, 106))
        draw.rectangle((x + 2, 192, x + 10, 196), fill=(40, 190, 90))
    for x in range(0, WIDTH, 256):
        draw.rectangle((x + 180, 30, x + 214, 300), fill=(224, 224, 220))
        draw.rectangle((x + 206, 30, x + 214, 300), fill=(196, 196, 192))
    rng = random.Random(5)
    chains = tuple(
        _walkers(rng, height=44 + 26 * depth, baseline=268 + 78 * depth, laps=(-1) ** turn * (1 + turn // 2))
        for depth in range(3)
        for turn in range(3)
    )
    return World(_grain(picture, 3), chains)


def riverside() -> World:
    """The river with barges and a ferry, towers behind it, people on the promenade."""
    picture = _gradient((172, 196, 220), (236, 222, 200), HEIGHT)
    draw = ImageDraw.Draw(picture)
    rng = random.Random(12)
    _houses(draw, rng, base=196, lit=0.12, tall=140)
    draw.polygon([(610, 196), (626, 60), (630, 8), (634, 60), (650, 196)], fill=(150, 140, 152))
    draw.ellipse((608, 92, 652, 136), fill=(176, 108, 122))
    draw.ellipse((618, 44, 642, 68), fill=(176, 108, 122))
    water = _gradient((110, 136, 146), (84, 112, 120), 190)
    picture.paste(water, (0, 196))
    for _ in range(900):
        x, y = rng.randrange(WIDTH), rng.randrange(200, 384)
        draw.line((x, y, x + rng.randrange(6, 22), y), fill=(132, 156, 162))
    draw.rectangle((0, 386, WIDTH, HEIGHT), fill=(188, 178, 164))
    for x in range(0, WIDTH, 32):
        draw.rectangle((x, 366, x + 5, 390), fill=(98, 92, 84))
    draw.rectangle((0, 362, WIDTH, 367), fill=(98, 92, 84))
    boats = (
        Chain((_boat((70, 84, 96), 150),), 2, 262, 1, 40),
        Chain((_boat((152, 70, 56), 210),), 2, 330, -1, 400),
    )
    walkers = tuple(_walkers(rng, height=62, baseline=438, laps=laps) for laps in (1, -1, 2))
    return World(_grain(picture, 3), boats + walkers)


WORLDS: dict[str, Callable[[], World]] = {
    "crossing-day": crossing_day,
    "crossing-night": crossing_night,
    "metro-hall": metro_hall,
    "riverside": riverside,
}


def _traffic(night: bool) -> tuple[Chain, ...]:
    paints: tuple[Colour, ...] = ((196, 40, 38), (238, 238, 234), (38, 64, 120), (60, 62, 66), (214, 170, 40))
    far = [Chain((_car(paint, 92, True, night),), 2, 296, -1, 170 * n) for n, paint in enumerate(paints[:3])]
    near = [
        Chain((_car(paint, 124, False, night),), 2, 382, 2, 190 * n) for n, paint in enumerate(paints[2:])
    ]
    bus = Chain((_bus((44, 120, 84), 230, night),), 1, 350, 1, 200)
    rng = random.Random(9)
    back = tuple(_walkers(rng, height=34, baseline=246, laps=laps, dark=night) for laps in (1, -1))
    front = tuple(_walkers(rng, height=66, baseline=442, laps=laps, dark=night) for laps in (1, -1, -2))
    return (*back, *far, bus, *near, *front)


def _walkers(rng: random.Random, *, height: int, baseline: int, laps: int, dark: bool = False) -> Chain:
    coat: Colour = (rng.randrange(30, 210), rng.randrange(30, 190), rng.randrange(40, 200))
    if dark:
        coat = (coat[0] // 3, coat[1] // 3, coat[2] // 3)
    poses = tuple(_person(coat, height, stride) for stride in (-1.0, -0.3, 0.5, 1.0, 0.4, -0.4))
    return Chain(poses, rng.choice((3, 4)), baseline, laps, rng.randrange(WIDTH), steps=8)


def _person(coat: Colour, height: int, stride: float) -> Sprite:
    tall, wide = height * _FINE, int(height * 0.62) * _FINE
    image = Image.new("RGBA", (wide, tall), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    middle, hip, swing = wide / 2, tall * 0.55, wide * 0.28 * stride
    for foot in (middle + swing, middle - swing):
        draw.line((middle, hip, foot, tall * 0.98), fill=(42, 44, 52, 255), width=int(wide * 0.16))
    draw.rounded_rectangle(
        (middle - wide * 0.22, tall * 0.2, middle + wide * 0.22, hip + 4), wide // 8, (*coat, 255)
    )
    draw.line((middle, tall * 0.26, middle - swing, tall * 0.5), fill=(*coat, 255), width=int(wide * 0.13))
    draw.ellipse(
        (middle - wide * 0.15, tall * 0.02, middle + wide * 0.15, tall * 0.2), fill=(222, 184, 156, 255)
    )
    draw.pieslice((middle - wide * 0.16, 0, middle + wide * 0.16, tall * 0.19), 180, 360, (30, 26, 26, 255))
    return image.resize((wide // _FINE, height), Image.Resampling.LANCZOS)


def _car(paint: Colour, width: int, left: bool, night: bool) -> Sprite:
    wide, tall = width * _FINE, int(width * 0.42) * _FINE
    image = Image.new("RGBA", (wide, tall), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    body = tuple(part // 2 for part in paint) if night else paint
    glass = (34, 40, 48, 255) if night else (96, 122, 140, 255)
    roof = [(0.2, 0.46), (0.34, 0.08), (0.7, 0.08), (0.86, 0.46)]
    draw.polygon([(x * wide, y * tall) for x, y in roof], fill=(*body, 255))
    pane = [(0.26, 0.44), (0.37, 0.15), (0.67, 0.15), (0.79, 0.44)]
    draw.polygon([(x * wide, y * tall) for x, y in pane], fill=glass)
    draw.rounded_rectangle((wide * 0.02, tall * 0.42, wide * 0.98, tall * 0.84), tall // 8, (*body, 255))
    for x in (0.2, 0.76):
        draw.ellipse((wide * x - tall * 0.2, tall * 0.6, wide * x + tall * 0.2, tall), fill=(22, 22, 24, 255))
    lamp = (255, 246, 200, 255) if night else (240, 236, 220, 255)
    draw.ellipse((wide * 0.92, tall * 0.48, wide * 0.99, tall * 0.62), fill=lamp)
    draw.ellipse((wide * 0.01, tall * 0.48, wide * 0.06, tall * 0.62), fill=(210, 30, 24, 255))
    if left:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.resize((width, tall // _FINE), Image.Resampling.LANCZOS)


def _bus(paint: Colour, width: int, night: bool) -> Sprite:
    image = Image.new("RGBA", (width, 84), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    body = tuple(part // 2 for part in paint) if night else paint
    glass = (236, 216, 160, 255) if night else (110, 134, 150, 255)
    draw.rounded_rectangle((0, 0, width - 1, 72), 8, (*body, 255))
    for x in range(10, width - 30, 32):
        draw.rectangle((x, 12, x + 26, 36), fill=glass)
    for x in (44, width - 60):
        draw.ellipse((x - 14, 56, x + 14, 84), fill=(22, 22, 24, 255))
    return image


def _boat(paint: Colour, width: int) -> Sprite:
    image = Image.new("RGBA", (width, 60), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.polygon([(0, 30), (width, 26), (width - 18, 56), (16, 56)], fill=(*paint, 255))
    draw.rectangle((width * 0.12, 4, width * 0.3, 32), fill=(226, 226, 220, 255))
    for x in range(int(width * 0.4), int(width * 0.86), 26):
        draw.rectangle((x, 16, x + 22, 30), fill=(164, 120, 70, 255))
    return image


def _houses(draw: ImageDraw.ImageDraw, rng: random.Random, *, base: int, lit: float, tall: int = 110) -> None:
    x = 0
    while x < WIDTH:
        wide, height = rng.randrange(46, 120), rng.randrange(60, tall + 60)
        wide = min(wide, WIDTH - x)
        shade = rng.randrange(120, 196)
        wall = (shade, shade - rng.randrange(4, 20), shade - rng.randrange(10, 34))
        draw.rectangle((x, base - height, x + wide, base), fill=wall)
        for wx in range(x + 6, x + wide - 8, 11):
            for wy in range(base - height + 8, base - 10, 14):
                glass = (232, 214, 150) if rng.random() < lit else (wall[0] - 50, wall[1] - 40, wall[2] - 24)
                draw.rectangle((wx, wy, wx + 5, wy + 7), fill=glass)
        x += wide


def _trees(picture: Image.Image, rng: random.Random, *, base: int) -> None:
    draw = ImageDraw.Draw(picture)
    for x in range(30, WIDTH - 40, 92):
        draw.rectangle((x + 14, base - 40, x + 19, base), fill=(92, 72, 54))
        for _ in range(26):
            dx, dy, r = rng.randrange(0, 34), rng.randrange(0, 42), rng.randrange(6, 12)
            green = (rng.randrange(50, 84), rng.randrange(98, 138), rng.randrange(48, 70))
            draw.ellipse((x + dx - r, base - 78 + dy - r, x + dx + r, base - 78 + dy + r), fill=green)


def _road(draw: ImageDraw.ImageDraw, *, top: int, bottom: int) -> None:
    draw.rectangle((0, top, WIDTH, bottom), fill=(92, 94, 98))
    middle = top + 60
    draw.line((0, middle, WIDTH, middle), fill=(222, 190, 70), width=3)
    for x in range(0, WIDTH, 64):
        draw.line((x, top + 108, x + 34, top + 108), fill=(226, 226, 222), width=3)
    for crossing in (200, 840):
        for stripe in range(7):
            x = crossing + stripe * 22
            draw.polygon(
                [(x, top + 6), (x + 11, top + 6), (x - 3, bottom - 6), (x - 18, bottom - 6)], (230, 230, 226)
            )


def _gradient(top: Colour, bottom: Colour, height: int) -> Image.Image:
    steps = np.linspace(0.0, 1.0, height)[:, None]
    column = np.array(top) * (1 - steps) + np.array(bottom) * steps
    return Image.fromarray(np.repeat(column[:, None, :], WIDTH, axis=1).astype(np.uint8))


def _grain(picture: Image.Image, strength: int) -> Image.Image:
    noise = np.random.default_rng(3).integers(-strength, strength + 1, (HEIGHT, WIDTH, 1))
    return Image.fromarray(np.clip(np.asarray(picture).astype(int) + noise, 0, 255).astype(np.uint8))
