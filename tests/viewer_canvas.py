"""What the viewer in a browser draws."""


def drawn(page, x: float, y: float) -> list[int]:
    """The RGBA colour on the viewer's canvas at a place given in parts of the slide."""
    page.wait_for_timeout(900)
    return page.evaluate(
        """([x, y]) => {
            const at = viewer.viewport.pixelFromPoint(
                new OpenSeadragon.Point(x, y * run.height / run.width), true);
            const canvas = viewer.drawer.canvas, ratio = canvas.width / canvas.clientWidth;
            return [...canvas.getContext("2d").getImageData(at.x * ratio, at.y * ratio, 1, 1).data];
        }""",
        [x, y],
    )
