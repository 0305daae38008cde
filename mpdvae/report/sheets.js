// Extracts images from sheets: a sheet is one picture of many images of equal size, side by side without gaps.
"use strict";
report.sheets = (() => {
  const found = new Map([...document.querySelectorAll("img[data-sheet]")].map((image) => [image.dataset.sheet, image]));

  const paint = (canvas, sheet, index) => {
    const { width, height } = canvas;
    const columns = sheet.naturalWidth / width;
    const x = (index % columns) * width;
    const y = Math.floor(index / columns) * height;
    canvas.getContext("2d").drawImage(sheet, x, y, width, height, 0, 0, width, height);
  };

  // Draws image `index` of the sheet `name` on a canvas of the image's own size; the style sheet enlarges it.
  const draw = (canvas, name, index, size) => {
    const sheet = found.get(name);
    Object.assign(canvas, size);
    canvas.dataset.index = index;
    if (sheet.complete) paint(canvas, sheet, index);
    else sheet.addEventListener("load", () => { if (Number(canvas.dataset.index) === index) paint(canvas, sheet, index); });
    return canvas;
  };
  const tile = (name, index, size) => draw(document.createElement("canvas"), name, index, size);
  return { draw, tile };
})();
