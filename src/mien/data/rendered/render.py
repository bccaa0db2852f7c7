"""One face: the head set in shape, turned, lit and projected."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.drawn.portrayal import UNITS
from mien.data.rendered.acting import Act
from mien.data.rendered.look.chart import Chart, chart_of, sample
from mien.data.rendered.look.hair import Hair, grow
from mien.data.rendered.look.light import Lighting
from mien.data.rendered.look.people import Person
from mien.data.rendered.look.shadow import Shadows, openness
from mien.data.rendered.look.skin import CreaseMaps, crease_maps, creased, linear, paint_skin
from mien.data.rendered.look.surfaces import (
    eye_colour,
    shade_eye,
    shade_hair,
    shade_inside,
    shade_skin,
)
from mien.data.rendered.mesh.camera import Camera, Pose, project, rotation
from mien.data.rendered.mesh.head import EYES, HEAD_SHAPES, LASHES, SKIN, HeadMesh
from mien.data.rendered.mesh.raster import Fragments, interpolate, rasterise, vertex_normals

__all__ = ["Rendering", "Shot", "Sitter", "Studio", "open_studio", "render", "seat"]

Image = NDArray[np.float32]
Values = NDArray[np.float32]
Places = NDArray[np.float64]

# Where the head turns on the neck, cm from the eyes.
_PIVOT: Final = np.array([0.0, -10.0, -9.0])
# Samples along each side of a pixel.
_FINER: Final = 2
# Clothes begin below this height of the base mesh, cm from the eyes, and rise to the sides.
_COLLAR: Final = -16.5
_COLLAR_RISES: Final = 0.22
_LASHES_COVER: Final = 0.55


@dataclass(frozen=True, slots=True)
class Studio:
    """What all pictures share.

    Attributes:
        mesh: The head.
        chart: Of its skin.
        creases: Folds on the chart.
        openness: How much of daylight reaches each vertex (V,), 0..1.
    """

    mesh: HeadMesh
    chart: Chart
    creases: CreaseMaps
    openness: Image


@dataclass(frozen=True, slots=True)
class Sitter:
    """What all pictures of a person share.

    Attributes:
        person: Who it is.
        head: The head without expression (V, 3), cm.
        skin: Painted skin.
        hair: Hair or cap; None for the bald.
    """

    person: Person
    head: Image
    skin: Image
    hair: Hair | None


@dataclass(frozen=True, slots=True)
class Shot:
    """How a picture is taken.

    Attributes:
        pose: How the head is turned.
        torso: How the shoulders are turned.
        lighting: All light.
        camera: Where the picture is taken from.
        oil: How strongly skin shines, 0..1.
    """

    pose: Pose
    torso: Pose
    lighting: Lighting
    camera: Camera
    oil: float


@dataclass(frozen=True, slots=True)
class Rendering:
    """A head without background.

    Attributes:
        light: Amounts of light (H, W, 3), RGB, linear, multiplied by `cover`.
        cover: Share of each pixel (H, W) that is not background, 0..1.
        hair: Share of each pixel (H, W) that hair or cap covers, 0..1.
        points: Eyes, nose tip and mouth corners (5, 2), px.
    """

    light: Image
    cover: Image
    hair: Image
    points: Places


def open_studio(mesh: HeadMesh) -> Studio:
    """Prepare a head for pictures.

    Args:
        mesh: The head.

    Returns:
        What all pictures share.
    """
    chart = chart_of(mesh)
    skin = mesh.triangles[mesh.parts == SKIN]
    return Studio(mesh, chart, crease_maps(chart), openness(mesh.vertices, skin))


def seat(studio: Studio, person: Person) -> Sitter:
    """Prepare a person for pictures.

    Args:
        studio: What all pictures share.
        person: Who it is.

    Returns:
        The person with head, skin and hair.
    """
    head = studio.mesh.person(
        male=person.male,
        years=person.years,
        weight=person.weight,
        ancestry=person.ancestry,
        details=person.details,
    )
    skin = paint_skin(studio.chart, person)
    return Sitter(person, head, skin, grow(studio.mesh, head, person))


def render(studio: Studio, sitter: Sitter, act: Act, shot: Shot) -> Rendering:
    """Render a face.

    Args:
        studio: What all pictures share.
        sitter: Who it is of.
        act: What the face does.
        shot: How the picture is taken.

    Returns:
        The head without background.
    """
    scene = _Scene(studio, sitter, act, shot)
    scene.draw_head()
    scene.draw_lashes()
    if sitter.hair is not None:
        scene.draw_hair(sitter.hair)
    small = scene.small()
    return Rendering(small[:, :, :3], small[:, :, 3], small[:, :, 4], scene.five_points())


def posed(vertices: NDArray[np.floating], pose: Pose, torso: Pose) -> Places:
    """Turn a head on its neck.

    Args:
        vertices: (V, 3), cm.
        pose: How the head is turned.
        torso: How the shoulders are turned.

    Returns:
        (V, 3) with the origin still between the eyes; between head and shoulders the neck bends.
    """
    height = vertices[:, 1] + 16 + 0.25 * (vertices[:, 2] + 8)
    share = np.clip(height / 7, 0, 1)
    share = (share * share * (3 - 2 * share))[:, None]
    centred = vertices - _PIVOT
    matrix = rotation(pose)
    turned = centred @ matrix.T
    held = centred @ rotation(torso).T
    return np.asarray(held + share * (turned - held) + matrix @ _PIVOT)


class _Scene:
    """A picture in the making."""

    def __init__(self, studio: Studio, sitter: Sitter, act: Act, shot: Shot) -> None:
        self.studio, self.sitter, self.act, self.shot = studio, sitter, act, shot
        self.mesh = studio.mesh
        shapes = act.shapes.copy()
        # No unit: so these lids are at rest.
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            blink = HEAD_SHAPES.index(name)
            shapes[blink] += (1 - shapes[blink]) * sitter.person.lids
        active = np.flatnonzero(shapes > 0.001)
        weights = shapes[active].astype(np.float32)
        moved = np.tensordot(weights, self.mesh.shapes[active], axes=1)
        self.shaped = (sitter.head + moved).astype(np.float64)
        self.vertices = posed(self.shaped, shot.pose, shot.torso)
        camera = shot.camera
        self.size = _FINER * camera.size
        self.camera = Camera(self.size, camera.view, camera.distance, camera.x, camera.y)
        self.places, self.near = project(self.vertices, self.camera)
        pixels = self.size * self.size
        # Light, cover, and cover by hair.
        self.layers = np.zeros((pixels, 5), np.float32)
        self.depth = np.full(pixels, -np.inf, np.float32)
        self.shadows = self._shadows()

    def _shadows(self) -> Shadows:
        """Head and hair cast shadows; skin is enough of the head."""
        vertices = self.vertices
        lighting = self.shot.lighting
        triangles = self.mesh.triangles[self.mesh.parts == SKIN]
        hair = self.sitter.hair
        if hair is not None:
            hanging = posed(hair.vertices, self.shot.pose, self.shot.torso)
            column, row = np.rint(hair.places).astype(np.intp).T
            # Ends of hair cast none.
            covered = (hair.cover[row, column] > 0.5)[hair.triangles].all(axis=1)
            triangles = np.concatenate([triangles, hair.triangles[covered] + len(vertices)])
            vertices = np.concatenate([vertices, hanging])
        return Shadows(lighting.lights[0].direction, lighting.shadow, vertices, triangles)

    def draw_head(self) -> None:
        """Draw skin, eyes and what is seen of the mouth's inside."""
        solid = (self.mesh.parts != LASHES) & _faces_camera(self.places, self.mesh.triangles)
        triangles = self.mesh.triangles[solid]
        parts = self.mesh.parts[solid]
        fragments = rasterise(self.places, self.near, triangles, self.size, self.size)
        normals = vertex_normals(self.vertices, self.mesh.triangles)
        values = np.concatenate(
            [
                self.vertices,
                normals,
                self.mesh.vertices,
                self.studio.chart.places,
                self.studio.openness[:, None],
            ],
            axis=1,
        )
        seen = interpolate(fragments, triangles, values)
        part = parts[fragments.triangle]
        lit = self.shadows.lit(seen[:, :3])
        slope = seen[:, 3:6]
        slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6)
        light = np.zeros((len(part), 3), np.float32)
        self._light_skin(light, part == SKIN, seen, lit)
        for eye in EYES:
            self._light_eye(
                light, part == eye, eye, fragments=fragments, triangles=triangles, lit=lit
            )
        inside = (part > max(EYES)) & (part != LASHES)
        lips = self._lips()
        front = rotation(self.shot.pose)[:, 2].astype(np.float32)
        depth = lips - seen[inside, :3] @ front
        light[inside] = shade_inside(part[inside], depth, slope[inside], self.shot.lighting)
        self.layers[fragments.pixels, :3] = light
        self.layers[fragments.pixels, 3] = 1
        self.depth[fragments.pixels] = fragments.nearness

    def _lips(self) -> float:
        """How far the lips stand out before the eyes, along the head's own axis, cm."""
        on_lips = self.mesh.lips > 0.5
        return float(np.quantile(self.shaped[on_lips, 2], 0.8))

    def _light_skin(
        self, light: Values, where: NDArray[np.bool_], seen: Values, lit: Values
    ) -> None:
        person = self.sitter.person
        sides = dict(zip(UNITS, self.act.units.tolist(), strict=True))
        skin = creased(self.sitter.skin, self.studio.creases, sides, person.years)
        albedo = sample(skin, seen[where, 9:11])
        base = seen[where, 6:9]
        clothed = base[:, 1] < _COLLAR + _COLLAR_RISES * abs(base[:, 0])
        albedo[clothed] = linear(person.cloth)
        oil = np.where(clothed, 0, self.shot.oil).astype(np.float32)[:, None]
        normals = seen[where, 3:6]
        day = seen[where, 11:]
        light[where] = shade_skin(
            albedo, normals, self.shot.lighting, lit=lit[where], day=day, oil=oil
        )

    def _light_eye(
        self,
        light: Values,
        where: NDArray[np.bool_],
        eye: int,
        *,
        fragments: Fragments,
        triangles: NDArray[np.intp],
        lit: Values,
    ) -> None:
        if not where.any():
            return
        # Looked up on the base mesh, where eyeballs are round.
        ball = self.mesh.vertices - self.mesh.vertices[self.mesh.vertices_of(eye)].mean(axis=0)
        chosen = Fragments(
            fragments.pixels[where],
            fragments.triangle[where],
            fragments.weights[where],
            fragments.nearness[where],
        )
        direction = interpolate(chosen, triangles, ball)
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)
        albedo = eye_colour(direction, self.act.gaze, self.sitter.person)
        light[where] = shade_eye(albedo, direction, self.shot.pose, self.shot.lighting, lit[where])

    def draw_lashes(self) -> None:
        """Draw the lashes over what is there."""
        triangles = self.mesh.triangles[self.mesh.parts == LASHES]
        fragments = rasterise(self.places, self.near, triangles, self.size, self.size)
        colour = np.zeros((len(fragments.pixels), 3), np.float32)
        colour += 0.3 * linear(self.sitter.person.hair)
        self._over(fragments, colour, np.full(len(colour), _LASHES_COVER, np.float32), 0)

    def draw_hair(self, hair: Hair) -> None:
        """Draw hair or cap over what is there: what is seen from its inside first."""
        vertices = posed(hair.vertices, self.shot.pose, self.shot.torso)
        places, near = project(vertices, self.camera)
        normals = vertex_normals(vertices, hair.triangles)
        values = np.concatenate([vertices, normals, hair.places], axis=1)
        outside = _faces_camera(places, hair.triangles)
        for triangles, sign in ((hair.triangles[~outside], -1), (hair.triangles[outside], 1)):
            fragments = rasterise(places, near, triangles, self.size, self.size)
            seen = interpolate(fragments, triangles, values)
            slope = sign * seen[:, 3:6]
            slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6)
            lit = self.shadows.lit(seen[:, :3])
            light, cover = shade_hair(hair, seen[:, 6:8], slope, self.shot.lighting, lit)
            # Between head and hair it is dark.
            self._over(fragments, light * (0.35 if sign < 0 else 1.0), cover, 1)

    def _over(self, fragments: Fragments, light: Values, cover: Values, hair: int) -> None:
        """Lay a half-transparent surface over what is farther away; hair: 1 if it is hair."""
        front = fragments.nearness > self.depth[fragments.pixels]
        pixels = fragments.pixels[front]
        alpha = cover[front]
        solid = alpha > 0.5
        self.depth[pixels[solid]] = fragments.nearness[front][solid]
        above = np.ones((len(pixels), 5), np.float32)
        above[:, :3] = light[front]
        above[:, 4] = hair
        self.layers[pixels] += alpha[:, None] * (above - self.layers[pixels])

    def small(self) -> Image:
        """The layers (H, W, 5) at the size of the picture."""
        size = (self.shot.camera.size, self.shot.camera.size)
        fine = self.layers.reshape(self.size, self.size, 5)
        return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), np.float32)

    def five_points(self) -> Places:
        """Middles of the eyes' openings, nose tip and mouth corners (5, 2), px."""
        eyes = [self.vertices[self.mesh.vertices_of(eye)] for eye in EYES]
        # On the front of the ball, where the lids part.
        front = rotation(self.shot.pose)[:, 2]
        fronts = [eye[(eye @ front).argmax()] for eye in eyes]
        points = [*fronts, *self.vertices[[self.mesh.nose, *self.mesh.mouth]]]
        return project(np.array(points), self.shot.camera)[0]


def _faces_camera(places: Places, triangles: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which triangles (T,) turn their outside to the camera: counter-clockwise, with y down."""
    first, second, third = (places[triangles[:, k]] for k in range(3))
    side, other = second - first, third - first
    return np.asarray(side[:, 0] * other[:, 1] - side[:, 1] * other[:, 0] < 0)
