# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The renderer: six pictures of a town with semantic, instance and depth labels from one geometry pass.

Software GL pays for draw calls and vertices on one thread, so a camera costs three calls: one indirect
multi-draw of the town's visible chunks (nearest first), one of all visible bodies, and the sky.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import moderngl
import numpy as np
import numpy.typing as npt
import sumolib

from vla_driver.sim.render import shaders, textures
from vla_driver.sim.render.actor_batch import BODY_MESHES, INSTANCE, ActorBatcher, Batch
from vla_driver.sim.render.light import Light
from vla_driver.sim.render.town_mesh import build_town
from vla_driver.sim.render.views import FAR_M, View, ViewSet, visible
from vla_driver.sim.world.scene import Actor, Look, SemanticClass, SignalHead
from vla_driver.types import CameraRig, Image, InvalidInput, VlaDriverError

#: How far the town and bodies are drawn.
TOWN_REACH_M = 320.0
ACTOR_REACH_M = 160.0
#: The depth label of the sky, metres.
SKY_DEPTH_M = FAR_M

#: The columns of a DrawElementsIndirectCommand of OpenGL 4.3, five 32-bit integers.
_COUNT, _INSTANCES, _FIRST, _BASE, _BASE_INSTANCE = range(5)
_COMMAND_BYTES = 20
_GL_PACKAGES = 'libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libopengl0'


class GraphicsUnavailableError(VlaDriverError, RuntimeError):
    """No EGL context could be made; the message says which packages to install."""


@dataclass(frozen=True)
class CameraRender:
    """One camera's picture and labels.

    rgb [H, W, 3] uint8; semantic [H, W] uint8 (`SemanticClass`); instance [H, W] uint16 (actor id, 0 =
    none); depth_m [H, W] float32 along the optical axis (z, not range), `SKY_DEPTH_M` for the sky.
    """

    rgb: Image
    semantic: npt.NDArray[np.uint8] | None = None
    instance: npt.NDArray[np.uint16] | None = None
    depth_m: npt.NDArray[np.float32] | None = None


def _create_context() -> moderngl.Context:
    try:
        # The library's stub types its keyword arguments as one dictionary each.
        return moderngl.create_context(standalone=True, backend='egl', require=430)  # type: ignore[arg-type]
    except Exception as error:  # glcontext raises bare Exception
        raise GraphicsUnavailableError(
            f'no OpenGL 4.3 context through EGL ({error}); the simulator needs Mesa: '
            f'apt-get install --no-install-recommends {_GL_PACKAGES}'
        ) from error


def _uniform(program: moderngl.Program, name: str) -> moderngl.Uniform:
    member = program[name]
    assert isinstance(member, moderngl.Uniform)
    return member


class Renderer:
    """Draws one town in one look for one rig.  Not for use from several threads."""

    def __init__(self, net: sumolib.net.Net, rig: CameraRig, look: Look) -> None:
        self._context = _create_context()
        self._views = ViewSet(rig)
        self._town = build_town(net, look)
        self._actors = ActorBatcher(self._town.surface, look.seed)
        self._light = Light.of(look)
        self._programs(look)
        self._geometry()
        self._targets()

    def _programs(self, look: Look) -> None:
        context, light = self._context, self._light
        gain = f'{255 / textures.NEUTRAL:.6f}'
        self._static = context.program(shaders.STATIC_VERTEX.replace('NEUTRAL_GAIN', gain), shaders.STATIC_FRAGMENT)
        self._actor = context.program(shaders.ACTOR_VERTEX, shaders.ACTOR_FRAGMENT)
        cloud = f'{float(textures.Layer.CLOUD):.1f}'
        self._sky = context.program(shaders.SKY_VERTEX, shaders.SKY_FRAGMENT.replace('CLOUD_LAYER', cloud))
        self._shadow = context.program(shaders.SHADOW_VERTEX, shaders.SHADOW_FRAGMENT)
        for program in (self._static, self._actor):
            _uniform(program, 'horizon').value = tuple(light.horizon)
            _uniform(program, 'haze_squared').value = light.haze_per_m**2
        for name in ('sun_direction', 'sun', 'ambient_up', 'ambient_down'):
            _uniform(self._actor, name).value = tuple(getattr(light, name))
        for name in ('horizon', 'zenith', 'cloud'):
            _uniform(self._sky, name).value = tuple(getattr(light, name))
        _uniform(self._sky, 'cloudiness').value = float(np.clip(0.5 + 0.35 * look.haze, 0.4, 1.0))
        _uniform(self._sky, 'far_depth').value = SKY_DEPTH_M
        _uniform(self._sky, 'label').value = int(SemanticClass.SKY)
        layers = textures.detail_layers(look.seed)
        self._detail = context.texture_array((textures.SIZE, textures.SIZE, len(layers)), 1, layers.tobytes())
        self._detail.build_mipmaps()
        self._detail.filter = (moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR)

    def _geometry(self) -> None:
        context, town = self._context, self._town
        self._static_array = context.vertex_array(
            self._static,
            [(context.buffer(town.vertices.tobytes()), '3f 4f1 3f', 'position', 'colour', 'detail')],
            context.buffer(town.indices.tobytes()),
        )
        vertices = np.concatenate(
            [np.hstack([m.positions, m.normals, m.colours, m.parts]) for m in BODY_MESHES]
        ).astype('<f4')
        base = np.concatenate([[0], np.cumsum([len(m.positions) for m in BODY_MESHES])])
        counts = [m.indices.size for m in BODY_MESHES]
        self._bodies = np.zeros((len(BODY_MESHES), 5), '<u4')  # every body's draw command
        self._bodies[:, _COUNT], self._bodies[:, _BASE] = counts, base[:-1]
        self._bodies[:, _FIRST] = np.cumsum(counts) - counts
        indices = np.concatenate([m.indices.ravel() for m in BODY_MESHES]).astype('<u4')
        self._instances = context.buffer(reserve=INSTANCE.itemsize * 1024, dynamic=True)
        self._commands = context.buffer(reserve=_COMMAND_BYTES * 4096, dynamic=True)
        self._body_vertices = context.buffer(vertices.tobytes())
        self._body_indices = context.buffer(indices.tobytes())
        self._corners = context.buffer(np.array([-1, -1, 1, -1, -1, 1, 1, 1], '<f4').tobytes())
        self._sky_array = context.vertex_array(self._sky, [(self._corners, '2f', 'corner')])
        self._bind_instances()

    def _bind_instances(self) -> None:
        """(Re)build the vertex arrays that read the instance buffer."""
        names = ('i_place', 'i_turn', 'i_scale', 'i_paint', 'i_label')
        self._actor_array = self._context.vertex_array(
            self._actor,
            [
                (self._body_vertices, '3f 3f 3f 1f 4f', 'position', 'normal', 'colour', 'paint', 'part'),
                (self._instances, '3f 4f 3f 3f 2u /i', *names),
            ],
            self._body_indices,
        )
        self._shadow_array = self._context.vertex_array(
            self._shadow,
            [(self._corners, '2f', 'corner'), (self._instances, '3f 4f 3f 20x /i', *names[:3])],
        )

    def _targets(self) -> None:
        context, size = self._context, self._views.atlas_size
        limit = context.info['GL_MAX_TEXTURE_SIZE']
        if max(size) > limit:
            raise InvalidInput(f'rig {self._views.rig.name}: pictures need {size} pixels, this GL allows {limit}')
        self._colour = context.texture(size, 4)
        depth = context.depth_renderbuffer(size)
        self._labels = context.texture(size, 2, dtype='u2')
        self._range = context.texture(size, 1, dtype='f4')
        self._full = context.framebuffer([self._colour, self._labels, self._range], depth)
        self._plain = context.framebuffer([self._colour], depth)
        self._pixels = np.empty((size[1], size[0], 4), np.uint8)

    def render(
        self,
        ego_pose: npt.ArrayLike,
        actors: Sequence[Actor],
        signals: Sequence[SignalHead],
        labels: bool = True,
    ) -> dict[str, CameraRender]:
        """Return every camera's picture from `ego_pose` [3] (x, y, yaw of base_link), labels on request.

        Raises `InvalidInput` for a pose or actor that cannot be drawn.
        """
        pose = np.asarray(ego_pose, dtype=np.float64)
        if pose.shape != (3,) or not np.isfinite(pose).all():
            raise InvalidInput(f'ego_pose: {ego_pose!r}, expected three finite numbers: x, y, yaw')
        views = self._views.at(pose)
        batch = self._actors.batch(actors, signals)
        chosen = [visible(view, batch.centres, batch.radii, ACTOR_REACH_M) for view in views]
        with self._context:  # several renderers may live in one process, each with its own context
            ranges = self._upload(views, batch, chosen)
            self._draw(self._full if labels else self._plain, views, ranges)
            self._draw_shadows(views, ranges)
            return self._read(labels)

    def _upload(
        self, views: list[View], batch: Batch, chosen: list[npt.NDArray[np.intp]]
    ) -> list[tuple[slice, slice, slice]]:
        """Write all cameras' instances and draw commands; return each camera's town, body and shadow commands."""
        town = self._town
        commands, rows, ranges = [], [], []
        at, base = 0, 0
        for view, seen in zip(views, chosen, strict=True):
            chunks = visible(view, town.centres[:-1], town.radii[:-1], TOWN_REACH_M)
            static = np.append(chunks, len(town.centres) - 1)
            bodies = batch.bodies_at(seen, view.eye)
            order = np.argsort(bodies, kind='stable')
            numbers = np.bincount(bodies, minlength=len(self._bodies))
            kinds = np.flatnonzero(numbers)
            starts = base + np.cumsum(numbers) - numbers
            shaded = seen[batch.shadows[seen]]
            command = np.zeros((len(static) + len(kinds) + 1, 5), '<u4')
            town_part, body_part = command[: len(static)], command[len(static) : -1]
            town_part[:, _COUNT], town_part[:, _FIRST], town_part[:, _INSTANCES] = (
                town.count[static], town.first[static], 1
            )  # fmt: skip
            body_part[:] = self._bodies[kinds]
            body_part[:, _INSTANCES], body_part[:, _BASE_INSTANCE] = numbers[kinds], starts[kinds]
            # Arrays are drawn with (count, instances, first, base_instance): the index base is not read.
            command[-1] = 4, len(shaded), 0, base + len(seen), 0
            rows += [seen[order], shaded]
            base += len(seen) + len(shaded)
            commands.append(command)
            town_end, end = at + len(static), at + len(command)
            ranges.append((slice(at, town_end), slice(town_end, end - 1), slice(end - 1, end)))
            at = end
        instance_bytes = batch.instances[np.concatenate(rows)].tobytes()
        command_bytes = np.concatenate(commands).tobytes()
        if len(instance_bytes) > self._instances.size:
            self._instances = self._context.buffer(reserve=2 * len(instance_bytes), dynamic=True)
            self._bind_instances()
        if len(command_bytes) > self._commands.size:
            self._commands = self._context.buffer(reserve=2 * len(command_bytes), dynamic=True)
        if instance_bytes:
            self._instances.write(instance_bytes)
        self._commands.write(command_bytes)
        return ranges

    def _draw(self, target: moderngl.Framebuffer, views: list[View], ranges: list[tuple[slice, slice, slice]]) -> None:
        context = self._context
        target.use()
        target.viewport = (0, 0, *self._views.atlas_size)
        target.clear(depth=1.0)
        context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        context.front_face = 'cw'  # the pictures are drawn upside down (see views.projection)
        self._detail.use(0)
        for view, band, (static, moving, _) in zip(views, self._views.bands, ranges, strict=True):
            target.viewport = band
            matrix = view.view_projection.T.astype('<f4').tobytes()
            if moving.stop > moving.start:
                _uniform(self._actor, 'view_projection').write(matrix)
                self._multi_draw(self._actor_array, moving)
            _uniform(self._static, 'view_projection').write(matrix)
            self._multi_draw(self._static_array, static)
            context.depth_func = '<='
            _uniform(self._sky, 'rays').write(view.rays.T.astype('<f4').tobytes())
            context.disable(moderngl.CULL_FACE)
            self._sky_array.render(moderngl.TRIANGLE_STRIP)
            context.enable(moderngl.CULL_FACE)
            context.depth_func = '<'

    def _multi_draw(self, array: moderngl.VertexArray, span: slice) -> None:
        array.render_indirect(self._commands, moderngl.TRIANGLES, count=span.stop - span.start, first=int(span.start))

    def _draw_shadows(self, views: list[View], ranges: list[tuple[slice, slice, slice]]) -> None:
        """Darken the ground under every body; labels and depth stay as they are."""
        context = self._context
        self._plain.use()
        self._plain.depth_mask = False
        context.enable_only(moderngl.DEPTH_TEST | moderngl.BLEND)
        for view, band, (_, _, shadow) in zip(views, self._views.bands, ranges, strict=True):
            self._plain.viewport = band
            _uniform(self._shadow, 'view_projection').write(view.view_projection.T.astype('<f4').tobytes())
            self._shadow_array.render_indirect(
                self._commands, moderngl.TRIANGLE_STRIP, count=1, first=int(shadow.start)
            )
        self._plain.depth_mask = True
        context.disable(moderngl.BLEND)

    def _read(self, labels: bool) -> dict[str, CameraRender]:
        width, height = self._views.atlas_size
        self._plain.read_into(self._pixels, components=4)
        if labels:
            marks = np.frombuffer(self._labels.read(), np.uint16).reshape(height, width, 2)
            depth = np.frombuffer(self._range.read(), np.float32).reshape(height, width)
        out: dict[str, CameraRender] = {}
        for camera, (x, y, w, h) in zip(self._views.rig, self._views.bands, strict=True):
            part = np.s_[y : y + h, x : x + w]
            # Read with the format it was drawn in and cut here: GL converts ten times slower.
            picture: Image = cv2.cvtColor(self._pixels[part], cv2.COLOR_RGBA2RGB)  # type: ignore[assignment]
            if labels:
                out[camera.name] = CameraRender(
                    picture, marks[part][..., 0].astype(np.uint8), marks[part][..., 1].copy(), depth[part].copy()
                )
            else:
                out[camera.name] = CameraRender(picture)
        return out

    def close(self) -> None:
        """Free the GL context and everything in it."""
        self._context.release()
