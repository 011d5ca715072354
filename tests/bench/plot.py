"""A figure with several line charts side by side, as SVG, by hand."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 330, 290, 58, 44, 40, 16
COLOURS = ("#666666", "#0b62a4", "#d1603d")


def _steps(top):
    """Round numbers from 0 to at least `top`, about five of them."""
    raw = max(top, 1e-9) / 4
    unit = 10 ** math.floor(math.log10(raw))
    step = next(f * unit for f in (1, 2, 5, 10) if f * unit >= raw)
    return [i * step for i in range(math.ceil(top / step) + 1)]


def _chart(left, title, unit, series):
    """`series`: [(name, [(devices, value), …])]"""
    xs = sorted({x for _, points in series for x, _ in points})
    ys = _steps(max(y for _, points in series for _, y in points))
    low, high = math.log(xs[0]), math.log(xs[-1])
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x_of(x):
        return left + LEFT + (math.log(x) - low) / ((high - low) or 1) * inner_w

    def y_of(y):
        return TOP + inner_h * (1 - y / ys[-1])

    out = ['<text x="%.1f" y="20" font-size="14" font-weight="bold">%s</text>'
           % (left + LEFT, escape("%s, %s" % (title, unit)))]
    for y in ys:
        out.append('<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#dddddd"/>'
                   % (left + LEFT, left + LEFT + inner_w, y_of(y), y_of(y)))
        out.append('<text x="%.1f" y="%.1f" text-anchor="end">%g</text>'
                   % (left + LEFT - 6, y_of(y) + 4, y))
    for x in xs:
        out.append('<text x="%.1f" y="%d" text-anchor="middle">%d</text>'
                   % (x_of(x), HEIGHT - BOTTOM + 18, x))
    out.append('<text x="%.1f" y="%d" text-anchor="middle">devices, each on a link of its own'
               '</text>' % (left + LEFT + inner_w / 2, HEIGHT - BOTTOM + 36))
    for (name, points), colour in zip(series, COLOURS):
        path = " ".join("%.1f,%.1f" % (x_of(x), y_of(y)) for x, y in points)
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>'
                   % (path, colour))
        out += ['<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s</title></circle>'
                % (x_of(x), y_of(y), colour, escape("%s, %d devices: %.3g %s" % (name, x, y, unit)))
                for x, y in points]
    return out


def figure(charts):
    """`charts`: [(title, unit, series)], all with the same names of series."""
    width = WIDTH * len(charts)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-size="11" '
           'font-family="sans-serif">' % (width, HEIGHT + 24),
           '<rect width="100%" height="100%" fill="white"/>']
    for i, (title, unit, series) in enumerate(charts):
        out += _chart(i * WIDTH, title, unit, series)
    x = LEFT
    for (name, _), colour in zip(charts[0][2], COLOURS):
        out.append('<rect x="%d" y="%d" width="18" height="4" fill="%s"/>'
                   % (x, HEIGHT + 8, colour))
        out.append('<text x="%d" y="%d">%s</text>' % (x + 24, HEIGHT + 14, escape(name)))
        x += 60 + 7 * len(name)
    return "\n".join(out + ["</svg>", ""])
