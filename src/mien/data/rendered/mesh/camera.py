"""The camera: how a head is turned, and where its points lie in the picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Camera", "Pose", "project", "rotation"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Pose:
    """How a head is turned.

    Attributes:
        yaw: Degrees; above 0 the nose points to the image's right.
        pitch: Degrees; above 0 the nose is lifted.
        roll: Degrees clockwise in the picture.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the picture is taken from.

    Attributes:
        size: Height and width of the picture, px.
        view: How much is seen across at the distance of the eyes, cm.
        distance: From the camera to the origin, cm.
        x: Where the origin lies, share of the width.
        y: Where the origin lies, share of the height.
    """

    size: int
    view: float = 24.0
    distance: float = 100.0
    x: float = 0.5
    y: float = 0.4


def rotation(pose: Pose) -> NDArray[np.float64]:
    """Compute the matrix that turns a head: yaw first, then pitch, then roll.

    Args:
        pose: How it is turned.

    Returns:
        (3, 3); it is applied to columns of x to the right, y up, z toward the viewer.

    >>> (rotation(Pose(yaw=90)) @ (0, 0, 1)).round(6).tolist()
    [1.0, 0.0, 0.0]
    >>> (rotation(Pose(pitch=90)) @ (0, 0, 1)).round(6).tolist()
    [0.0, 1.0, 0.0]
    >>> (rotation(Pose(roll=90)) @ (0, 1, 0)).round(6).tolist()
    [1.0, 0.0, 0.0]
    """
    yaw, pitch, roll = np.deg2rad((pose.yaw, pose.pitch, pose.roll))
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turned = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    cosine, sine = np.cos(pitch), np.sin(pitch)
    lifted = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    cosine, sine = np.cos(roll), np.sin(roll)
    tilted = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    return np.asarray(tilted @ lifted @ turned)


def project(points: Floats, camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project points in perspective.

    Args:
        points: (V, 3), cm, after the head was turned.
        camera: Where the picture is taken from.

    Returns:
        Places (V, 2) in the picture, px with pixel centres at whole numbers, and nearness (V,):
        one over the distance from the camera's plane.
    """
    nearness = 1 / (camera.distance - points[:, 2].astype(np.float64))
    scale = camera.size / camera.view * camera.distance * nearness
    x = camera.x * camera.size + points[:, 0] * scale
    y = camera.y * camera.size - points[:, 1] * scale
    return np.stack([x, y], axis=1) - 0.5, nearness
