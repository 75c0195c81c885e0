"""Gestures and waits of the tests on the page of the studio in a real browser."""

import time

SCORE = "studio.score"
LOADED = "body[data-ready=true]"


def lane(page, name: str):
    return page.locator(f"canvas[data-lane={name}]")


def drag(page, name: str, *points: tuple[float, float], steps: int = 8) -> None:
    """Drag through points, shares of the lane's width and height from its top left."""
    lane(page, name).scroll_into_view_if_needed()
    box = lane(page, name).bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=steps)
    page.mouse.up()


def generated(page) -> None:
    """Wait for a generation that was started."""
    page.wait_for_selector("body[data-job=running]", timeout=10_000)
    page.wait_for_selector("body[data-job=done][data-takes=full]", timeout=90_000)


def until(page, expression: str, seconds: float = 20.0) -> None:
    """Poll an expression until it is true; the page's content security policy forbids to do so inside the page."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.02)


def curves(page) -> dict:
    return page.evaluate(f"{SCORE}.curves()")
