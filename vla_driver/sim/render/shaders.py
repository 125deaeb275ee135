# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""GLSL of the renderer.  Three programs: fixed town, moving bodies, sky; and soft contact shadows.

Colours are display values (see light.py).  `haze` keeps the share of a surface's own colour,
1 / (1 + (z k)^2): it needs no exponential and 1 / z is at hand in gl_FragCoord.w.
"""

from __future__ import annotations

_HEADER = '#version 330\n'

_OUTPUTS = """
layout(location=0) out vec4 out_colour;
layout(location=1) out uvec2 out_label;
layout(location=2) out float out_depth;
"""

_HAZE = """
uniform vec3 horizon;
uniform float haze_squared;
vec3 haze(vec3 colour) {
    float w = gl_FragCoord.w * gl_FragCoord.w;
    return mix(horizon, colour, w / (w + haze_squared));
}
"""

STATIC_VERTEX = (
    _HEADER
    + """
uniform mat4 view_projection;
in vec3 position;
in vec4 colour;
in vec3 detail;
out vec3 v_colour;
out vec3 v_detail;
flat out uint v_label;
void main() {
    v_colour = colour.rgb * NEUTRAL_GAIN;
    v_detail = detail;
    v_label = uint(colour.a * 255.0 + 0.5);
    gl_Position = view_projection * vec4(position, 1.0);
}
"""
)

STATIC_FRAGMENT = (
    _HEADER
    + _OUTPUTS
    + _HAZE
    + """
uniform sampler2DArray detail_layers;
in vec3 v_colour;
in vec3 v_detail;
flat in uint v_label;
void main() {
    out_colour = vec4(haze(v_colour * texture(detail_layers, v_detail).r), 1.0);
    out_label = uvec2(v_label, 0u);
    out_depth = 1.0 / gl_FragCoord.w;
}
"""
)

ACTOR_VERTEX = (
    _HEADER
    + """
uniform mat4 view_projection;
uniform vec3 sun_direction, sun, ambient_up, ambient_down;
in vec3 position;
in vec3 normal;
in vec3 colour;
in float paint;
in vec4 part;               // pivot x, pivot z, swing, lamp
in vec3 i_place;
in vec4 i_turn;             // cos, sin of yaw; swing angle; lit lamp
in vec3 i_scale;
in vec3 i_paint;
in uvec2 i_label;
out vec3 v_colour;
flat out uvec2 v_label;
void main() {
    vec3 p = position * i_scale;
    vec3 n = normal / i_scale;
    float angle = part.z * i_turn.z;
    float c = cos(angle), s = sin(angle);
    vec2 pivot = part.xy * i_scale.xz;
    vec2 arm = p.xz - pivot;
    p.xz = pivot + vec2(c * arm.x - s * arm.y, s * arm.x + c * arm.y);
    n.xz = vec2(c * n.x - s * n.z, s * n.x + c * n.z);
    p.xy = vec2(i_turn.x * p.x - i_turn.y * p.y, i_turn.y * p.x + i_turn.x * p.y);
    n.xy = vec2(i_turn.x * n.x - i_turn.y * n.y, i_turn.y * n.x + i_turn.x * n.y);
    n = normalize(n);
    vec3 light = mix(ambient_down, ambient_up, 0.5 + 0.5 * n.z) + sun * max(dot(n, sun_direction), 0.0);
    vec3 body = paint < 0.5 ? vec3(1.0) : paint < 1.5 ? i_paint : 0.16 + 0.35 * i_paint.zxy;
    vec3 shaded = colour * body * light;
    // A lamp shines by itself; a lens of a signal is dark unless it is the lit one.
    float lamp = part.w;
    vec3 lens = abs(lamp - i_turn.w) < 0.5 ? colour : 0.16 * colour;
    v_colour = lamp < 0.5 ? shaded : lamp > 8.5 ? max(shaded, 0.92 * colour) : lens;
    v_label = i_label;
    gl_Position = view_projection * vec4(p + i_place, 1.0);
}
"""
)

ACTOR_FRAGMENT = (
    _HEADER
    + _OUTPUTS
    + _HAZE
    + """
in vec3 v_colour;
flat in uvec2 v_label;
void main() {
    out_colour = vec4(haze(v_colour), 1.0);
    out_label = v_label;
    out_depth = 1.0 / gl_FragCoord.w;
}
"""
)

SKY_VERTEX = (
    _HEADER
    + """
uniform mat3 rays;
in vec2 corner;
out vec3 v_ray;
void main() {
    v_ray = rays * vec3(corner, 1.0);
    gl_Position = vec4(corner, 1.0, 1.0);
}
"""
)

# Clouds lie on a plane above the camera, so they have no seam in any direction.
SKY_FRAGMENT = (
    _HEADER
    + _OUTPUTS
    + """
uniform vec3 horizon, zenith, cloud;
uniform float cloudiness, far_depth;
uniform uint label;
uniform sampler2DArray detail_layers;
in vec3 v_ray;
void main() {
    float up = max(v_ray.z * inversesqrt(dot(v_ray, v_ray)), 0.0);
    vec2 place = v_ray.xy * inversesqrt(dot(v_ray, v_ray)) / (up + 0.12) * 0.11;
    float cover = cloudiness * texture(detail_layers, vec3(place, CLOUD_LAYER)).r * min(up * 6.0, 1.0);
    out_colour = vec4(mix(mix(horizon, zenith, up * (2.0 - up)), cloud, cover), 1.0);
    out_label = uvec2(label, 0u);
    out_depth = far_depth;
}
"""
)

SHADOW_VERTEX = (
    _HEADER
    + """
uniform mat4 view_projection;
in vec2 corner;
in vec3 i_place;
in vec4 i_turn;
in vec3 i_scale;
out vec2 v_corner;
void main() {
    vec2 p = corner * (0.5 * i_scale.xy + 0.22);
    p = vec2(i_turn.x * p.x - i_turn.y * p.y, i_turn.y * p.x + i_turn.x * p.y);
    v_corner = corner;
    gl_Position = view_projection * vec4(i_place + vec3(p, 0.03), 1.0);
}
"""
)

SHADOW_FRAGMENT = (
    _HEADER
    + """
layout(location=0) out vec4 out_colour;
in vec2 v_corner;
void main() {
    vec2 edge = abs(v_corner);
    float strength = (1.0 - edge.x * edge.x * edge.x) * (1.0 - edge.y * edge.y * edge.y);
    out_colour = vec4(0.03, 0.03, 0.04, 0.75 * min(1.6 * strength, 1.0));
}
"""
)
