"""Make the pictures of docs/explorer.md anew, from the finished recipe `demo`.

    python docs/pictures/explorer.py        reads OLMO_ROOT; takes Debian's chromium

Viewed by width and height in pixels; only the first screen of a page is taken.
"""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from assets.paths import root
from pipelines.explorer.experiments import find_experiments
from tests.pipelines.explorer.serving import serving

HERE = Path(__file__).parent


def main() -> None:
    """Write every picture beside this script."""
    found = {each.asset: each for each in find_experiments(root()).values()}
    stage1, ingredients = found["stage1"], [each for each in found if "ingredient" in each]
    runs = "&".join(f"run={found[name].id}" for name in sorted(ingredients))
    step = f"/step/{stage1.id}?step={stage1.step}"
    soup = f"/model/{found['soup'].id}"
    pages = {
        "table": ("/", 1100, 390),
        "model": (soup, 1100, 900),
        "compare": (f"/compare?{runs}", 1100, 800),
        "step": (step, 1100, 620),
        "phone": (soup, 390, 844),
    }
    with serving(root()) as origin, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (address, width, height) in pages.items():
            drawn = picture(browser, origin + address, width, height)
            (HERE / f"explorer_{name}.png").write_bytes(drawn)
        browser.close()


def picture(browser: Browser, address: str, width: int, height: int) -> bytes:
    """Return the first screen of a page as a PNG."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(address, wait_until="networkidle")
    page.wait_for_timeout(500)  # plotly's last layout
    taken = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    written = io.BytesIO()
    taken.convert("RGB").save(written, format="png", optimize=True)
    return written.getvalue()


if __name__ == "__main__":
    main()
